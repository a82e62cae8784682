"""What sockets that never read, or read a byte a second, cost the process that serves them, and those beside them.

Targets: 100 silent sockets cost at most 50 MB for as long as they last, 60 s here, and the memory comes back while they
are still there, because the server has given them up; the p99 of who asks beside them is at most 1.25 times what it is
without them (median of five pairs). The sequencer is complete, with a real PostgreSQL.
"""

import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from bench.figures import at_most, median, percentile, ratio
from bench.service import GAME_STATE, Server, sequencer

SOCKETS = 100
SUBSCRIPTIONS = 20
HELD_S = 60.0
PAIRS = 5
PAIR_S = 8.0

_MOST_MB = 50
_MOST_RATIO = 1.25
_SETTINGS = {
    "PICCOLO_DB_RUN_MIGRATIONS": "true",
    "SEQUENCER_GENERATIONS": "1",
    "SEQUENCER_TIMEOUT_MS": "1",
    "SEQUENCER_LANE_WAITING": "512",
    "SEQUENCER_MAX_SEQUENCE_LENGTH": "300",
    "SEQUENCER_STEP_INTERVAL_MS": "0",
}
# Out of reach, so that the plan is as long as one may be.
_FAR = [{**GAME_STATE["enemy_units"][0], "coordinate": {"x": 1e6, "y": 0.0}}]
_PAYLOAD = {
    "query": "subscription ($state: GameStateInputType!) "
    "{ generateSteps(gameStateInput: $state) { coordinate { x y } throttle } }",
    "variables": {"state": {"playerUnits": GAME_STATE["player_units"], "enemyUnits": _FAR}},
}
# The key is RFC 6455's own example: what the server makes of it proves nothing here.
_HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\nAuthorization: Bearer silent-{number}\r\n\r\n"
)


def measure(*, held_s: float = HELD_S, pairs: int = PAIRS, pair_s: float = PAIR_S) -> dict[str, Any]:
    """Hold sockets of both kinds, once for long and then in turns with none."""
    with tempfile.TemporaryDirectory() as folder, sequencer(Path(folder), **_SETTINGS) as server:
        _asked(server, 2.0)  # what first requests make is there to stay
        return {
            kind: {**_memory(server, reads, held_s), **_beside(server, reads, pairs, pair_s)}
            for kind, reads in (("silent", False), ("one_byte_a_second", True))
        }


def _memory(server: Server, reads: bool, held_s: float) -> dict[str, Any]:  # noqa: FBT001 - a kind of client
    server.wait_until_idle()
    before = peak = server.resident_kb
    with _holding(server.port, reads):
        until = time.monotonic() + held_s
        while time.monotonic() < until:
            peak = max(peak, server.resident_kb)
            time.sleep(0.1)
        left = _connections(server)
    server.wait_until_idle()
    after = server.resident_kb
    return {
        "before_mb": round(before / 1024, 1),
        "more_at_peak_mb": at_most(_MOST_MB, round((peak - before) / 1024, 1)),
        "more_afterwards_mb": round((after - before) / 1024, 1),
        "still_connected": left,
    }


def _connections(server: Server) -> int:
    return sum(
        bool(connection.raddr) and connection.laddr.port == server.port
        for connection in server.process.net_connections("tcp")
    )


def _beside(server: Server, reads: bool, pairs: int, pair_s: float) -> dict[str, Any]:  # noqa: FBT001 - see above
    without, beside = [], []
    for _ in range(pairs):
        server.wait_until_idle()
        without.append(percentile(_asked(server, pair_s), 99))
        with _holding(server.port, reads):
            beside.append(percentile(_asked(server, pair_s), 99))
    return {
        "p99_without_ms": median(without),
        "p99_beside_ms": median(beside),
        "p99_ratio": at_most(_MOST_RATIO, ratio(beside, without)),
    }


def _asked(server: Server, seconds: float) -> list[float]:
    """Ask again and again, a hundred times a second at most; return milliseconds."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        while (asked := time.perf_counter()) < until:
            client.post("/graphql", json={"query": "{ version { name } }"}).raise_for_status()
            times.append((time.perf_counter() - asked) * 1000)
            time.sleep(max(0.0, 0.01 - (time.perf_counter() - asked)))
    assert len(times) > 1, statistics.mean(times)
    return times


@contextmanager
def _holding(port: int, reads: bool) -> Iterator[None]:  # noqa: FBT001 - see above
    """Hold sockets whose subscriptions have more to say than anybody takes."""
    is_over = threading.Event()
    with ExitStack() as held:
        sockets = [held.enter_context(_subscribed(port, number)) for number in range(SOCKETS)]
        reader = threading.Thread(target=_read_a_little, args=(sockets, is_over))
        if reads:
            reader.start()
            held.callback(reader.join)
        held.callback(is_over.set)
        yield


def _subscribed(port: int, number: int) -> socket.socket:
    client = socket.socket()
    # Small, so that what is not read is the server's to keep.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(_HANDSHAKE.format(number=number).encode() + _frame({"type": "connection_init"}))
    for name in range(SUBSCRIPTIONS):
        client.sendall(_frame({"type": "subscribe", "id": str(name), "payload": _PAYLOAD}))
    return client


def _frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    # Clients mask what they send; by zeros, so that it stays as it is.
    return bytes([0x81, 0xFE]) + len(body).to_bytes(2, "big") + bytes(4) + body


def _read_a_little(sockets: Sequence[socket.socket], is_over: threading.Event) -> None:
    for client in sockets:
        client.settimeout(0)
    while not is_over.wait(1.0):
        for client in sockets:
            try:
                client.recv(1)
            except OSError:
                continue  # nothing there yet, or given up by the server
