#!/usr/bin/env python3
"""Subscribes to generateSteps over WebSocket, and prints each goal of the plan with the time since the one before.

Exits with 1 if the goals do not come to their end, with 2 if it is called in another way, with 130 on Ctrl-C.
"""
# ruff: noqa: T201 - a program that prints

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

HERE = Path(__file__).resolve().parent
SUBSCRIPTION = """
subscription Plan($gameStateInput: GameStateInputType!, $seed: Int) {
  generateSteps(gameStateInput: $gameStateInput, seed: $seed) { coordinate { x y } throttle }
}
"""
CAMEL_CASE = {"player_units": "playerUnits", "enemy_units": "enemyUnits"}
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Words:
    """What a protocol calls the messages that start an operation, carry an item of it, and stop it."""

    start: str
    item: str
    stop: str


PROTOCOLS = {
    "graphql-transport-ws": Words(start="subscribe", item="next", stop="complete"),
    "graphql-ws": Words(start="start", item="data", stop="stop"),
}


class RefusedError(Exception):
    """The server speaks, and does not give goals."""


def main() -> None:
    """Print the goals until they are complete; whatever prevents this is told in one sentence."""
    arguments = _arguments()
    try:
        from websockets.exceptions import WebSocketException  # noqa: PLC0415 - explained by the error below
    except ModuleNotFoundError as error:
        sys.exit(f"There is no module {error.name} for {sys.executable}. Run `make setup`, then use .venv/bin/python.")
    try:
        asyncio.run(_watch(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)  # who reads the goals has enough of them
    except OSError as error:
        sys.exit(f"{arguments.url} cannot be reached: {error.strerror or error}")
    except (WebSocketException, RefusedError) as error:
        sys.exit(f"{arguments.url} does not give goals: {error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    url = os.environ.get("THROTTLING_SEQUENCER_URL") or "http://127.0.0.1:8080"
    parser.add_argument(
        "--url",
        type=_endpoint,
        default=url,
        help="where the service is (default: $THROTTLING_SEQUENCER_URL, else %(default)s)",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default=next(iter(PROTOCOLS)), help="default: %(default)s")
    parser.add_argument("--token", help="who asks, as a Bearer token in connection_init")
    parser.add_argument("--seed", type=int, help="makes the search repeatable, as far as its time does not end it")
    parser.add_argument(
        "game_state",
        type=_game_state,
        nargs="?",
        default=str(HERE / "game_state.json"),
        metavar="FILE",
        help="a game state as REST takes it, or in camel case (default: game_state.json beside this script)",
    )
    return parser.parse_args()


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in SCHEMES:
        raise argparse.ArgumentTypeError(f"{url} should be like http://127.0.0.1:8080")
    path = parts.path.rstrip("/").removesuffix("/graphql")
    return f"{SCHEMES[parts.scheme]}://{parts.netloc}{path}/graphql"


def _game_state(file: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{file} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise argparse.ArgumentTypeError(f"{file} should hold a JSON object")
    return {CAMEL_CASE.get(key, key): value for key, value in state.items()}


async def _watch(arguments: argparse.Namespace) -> None:
    from websockets.asyncio.client import connect  # noqa: PLC0415 - see main
    from websockets.typing import Subprotocol  # noqa: PLC0415

    protocol = Subprotocol(arguments.protocol)
    async with connect(arguments.url, subprotocols=[protocol], open_timeout=PATIENCE_S) as socket:
        try:
            await _converse(socket, arguments)
        finally:
            # On an exception, the end of the block would tell the server of an internal error.
            await socket.close()


async def _converse(socket: "ClientConnection", arguments: argparse.Namespace) -> None:
    if socket.subprotocol != arguments.protocol:
        raise RefusedError(f"it does not speak {arguments.protocol}")
    await _introduce(socket, arguments.token)
    words = PROTOCOLS[arguments.protocol]
    variables = {"gameStateInput": arguments.game_state, "seed": arguments.seed}
    await _send(socket, words.start, id="1", payload={"query": SUBSCRIPTION, "variables": variables})
    try:
        await _print_goals(_items(socket, words))
    except (asyncio.CancelledError, BrokenPipeError):
        await _send(socket, words.stop, id="1")
        raise


async def _introduce(socket: "ClientConnection", token: str | None) -> None:
    await _send(socket, "connection_init", payload={"Authorization": f"Bearer {token}"} if token else {})
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await _receive(socket)
    except TimeoutError as error:
        raise RefusedError(f"it did not answer the introduction within {PATIENCE_S:.0f} s") from error
    if answer["type"] != "connection_ack":
        raise RefusedError(f"it answered the introduction by {json.dumps(answer)}")


async def _print_goals(items: AsyncIterator[dict[str, Any]]) -> None:
    number, before = 0, time.monotonic()
    async for item in items:
        number, now = number + 1, time.monotonic()
        goal = item["data"]["generateSteps"]
        target = goal["coordinate"]
        after = f"after {(now - before) * 1000:.0f} ms"
        print(f"goal {number} {after}: throttle {goal['throttle']} towards {target['x']}, {target['y']}", flush=True)
        before = now
    print(f"complete: {number} goals")


async def _items(socket: "ClientConnection", words: Words) -> AsyncIterator[dict[str, Any]]:
    """Yield the payloads of the operation until it is complete; raises RefusedError for GraphQL errors."""
    while True:
        match await _receive(socket):
            case {"type": words.item, "payload": {"errors": [*errors]}} if errors:
                raise RefusedError(_told(errors))
            case {"type": words.item, "payload": dict() as payload}:
                yield payload
            case {"type": "error", "payload": payload}:
                raise RefusedError(_told(payload if isinstance(payload, list) else [payload]))
            case {"type": "complete"}:
                return
            case {"type": "ping"}:
                await _send(socket, "pong")


def _told(errors: list[Any]) -> str:
    return "; ".join(str(error.get("message")) for error in errors)


async def _send(socket: "ClientConnection", kind: str, **rest: object) -> None:
    await socket.send(json.dumps({"type": kind, **rest}))


async def _receive(socket: "ClientConnection") -> dict[str, Any]:
    frame = await socket.recv()
    try:
        message = json.loads(frame)
    except ValueError as error:
        raise RefusedError(f"it sent {frame!r:.100}, which is no JSON") from error
    if not isinstance(message, dict) or "type" not in message:
        raise RefusedError(f"it sent {frame!r:.100}, which is no message of the protocol")
    return message


if __name__ == "__main__":
    main()
