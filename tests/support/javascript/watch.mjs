// Subscribes by one of the official clients and prints what it hears, one JSON value a line.
// node watch.mjs CLIENT URL '{"query": …, "variables": …, "authorization": …}'
import { createClient as createSocketClient } from "graphql-ws";
import { createClient as createEventClient } from "graphql-sse";
import legacy from "subscriptions-transport-ws";
import WebSocket from "ws";

const [name, url, given] = process.argv.slice(2);
const { query, variables, authorization } = JSON.parse(given);
const credentials = authorization ? { authorization } : {};
const socketUrl = url.replace(/^http/, "ws");

const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const clients = {
  "graphql-ws": (sink) => {
    const client = createSocketClient({
      url: socketUrl,
      webSocketImpl: WebSocket,
      connectionParams: credentials,
      retryAttempts: 0,
    });
    client.subscribe({ query, variables }, sink);
  },
  "graphql-sse": (sink) => {
    const client = createEventClient({ url, headers: credentials, retryAttempts: 0 });
    client.subscribe({ query, variables }, sink);
  },
  "subscriptions-transport-ws": (sink) => {
    const client = new legacy.SubscriptionClient(
      socketUrl,
      { connectionParams: credentials, connectionCallback: (error) => error && sink.error({ refused: error }) },
      WebSocket,
    );
    const end = (then) => (value) => {
      then(value);
      client.close();
    };
    client.request({ query, variables }).subscribe({
      next: sink.next,
      error: end(sink.error),
      complete: end(sink.complete),
    });
  },
};

clients[name]({
  next: (result) => print({ result, at: performance.now() / 1000 }),
  complete: () => print({ complete: true }),
  error: (error) => {
    // A list of GraphQL errors, one such error, the event of a socket that closed, or an HTTP answer.
    const errors = Array.isArray(error) ? error : error.extensions && [error];
    if (errors) {
      print({ result: { errors }, at: performance.now() / 1000 });
      print({ complete: true });
    } else {
      print({ refused: error.code ?? error.response?.status ?? error.refused ?? String(error) });
    }
    process.exit(0);
  },
});
