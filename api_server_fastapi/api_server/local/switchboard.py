"""The lab's switchboard: TCP links that can be cut, delayed and reset, and agents that tell proxies who is the primary.

`python -m api_server.local.switchboard <folder>` reads `switchboard.config` there and tells by `switchboard.json` that
it works, and where and with what secret it takes orders: one JSON object a line.
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from api_server.local.background import kill_all
from api_server.local.lab_state import left_by_lab
from api_server.local.links import Link
from api_server.local.replication import LabError, write_secret

CONFIGURATION, CONTROL = "switchboard.config", "switchboard.json"

_ORDER_TIMEOUT_S = 5.0

# How often an agent asks its node, and how old an answer may be to be told.
_ASK_EVERY_S = 0.05
_TOLD_FOR_S = 0.2
_FOLDER_EVERY_S = 1.0
_ROLE = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"


@dataclass(frozen=True, slots=True)
class Switchboard:
    """What gives the switchboard of a folder its orders."""

    folder: Path

    @property
    def is_ready(self) -> bool:
        return (self.folder / CONTROL).exists()

    def configure(
        self, links: Mapping[str, tuple[int, int]], agents: Mapping[str, tuple[int, int]], conninfo: Mapping[str, str]
    ) -> None:
        """Write what it shall do at its next start: each link and agent is a port and that of the node behind it."""
        (self.folder / CONTROL).unlink(missing_ok=True)
        text = json.dumps({"links": links, "agents": agents, "conninfo": conninfo})
        write_secret(self.folder / CONFIGURATION, text)

    def links(self) -> dict[str, str]:
        """Return the mode of each link."""
        links: dict[str, str] = self._order(do="links")["links"]
        return links

    def set_link(self, link: str, mode: str) -> None:
        """Set a link's mode."""
        self._order(do="link", name=link, mode=mode)

    def set_proxy_state(self, node: str, state: str) -> None:
        """Have the agent of a node say what is wanted of it: ready, drain or maint."""
        self._order(do="agent", name=node, state=state)

    def _order(self, **order: str) -> dict[str, Any]:
        try:
            control = json.loads((self.folder / CONTROL).read_text())
            with socket.create_connection(("127.0.0.1", control["port"]), _ORDER_TIMEOUT_S) as connection:
                connection.sendall(json.dumps({**order, "secret": control["secret"]}).encode() + b"\n")
                with connection.makefile() as answers:
                    answer: dict[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise LabError(
                f"The switchboard over {self.folder} does not answer: `lab start switchboard` starts it."
            ) from error
        if "error" in answer:
            raise LabError(answer["error"])
        return answer


class Agent:
    """Answers HAProxy's agent-check for a node: up while it is a primary that takes writes."""

    def __init__(self, port: int, conninfo: str) -> None:
        self._port = port
        self._conninfo = conninfo
        self._is_writer = False
        self._asked_at = float("-inf")
        self.state = "ready"

    async def open(self) -> asyncio.Server:
        """Begin to answer."""
        return await asyncio.start_server(self._answer, "127.0.0.1", self._port)

    async def watch(self) -> None:
        """Ask the node again and again. One that is frozen holds this up, and so it is not told of as a writer."""
        while True:
            with suppress(psycopg.Error, OSError):
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, connect_timeout=2
                ) as session:
                    await self._ask(session)
            self._is_writer = False
            await asyncio.sleep(_ASK_EVERY_S)

    async def _ask(self, session: "psycopg.AsyncConnection[tuple[Any, ...]]") -> None:
        while True:
            asked_at = time.monotonic()
            row = await (await session.execute(_ROLE)).fetchone()
            self._is_writer, self._asked_at = row == (True,), asked_at
            await asyncio.sleep(_ASK_EVERY_S)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG002 - a server's
        is_fresh = time.monotonic() - self._asked_at <= _TOLD_FOR_S
        role = "up" if self._is_writer and is_fresh and self.state != "maint" else "down"
        with suppress(OSError):
            # The operator's word goes with each answer: "ready" alone would end a drain.
            writer.write(f"{role} {self.state}\n".encode())
            await writer.drain()
        writer.close()


class Board:
    """All links and agents of a lab, and the port on which they take orders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        configuration = json.loads((folder / CONFIGURATION).read_text())
        self._links = {name: Link(name, port, to) for name, (port, to) in configuration["links"].items()}
        self._agents = {
            name: Agent(port, psycopg.conninfo.make_conninfo(**configuration["conninfo"], port=to))
            for name, (port, to) in configuration["agents"].items()
        }
        self._secret = secrets.token_urlsafe(24)

    async def run(self) -> None:
        """Work until somebody ends the process, or deletes the folder: the whole lab ends with that."""
        for link in self._links.values():
            await link.open()
        agents = [await agent.open() for agent in self._agents.values()]
        control = await asyncio.start_server(self._take_orders, "127.0.0.1", 0)
        told = json.dumps({"port": control.sockets[0].getsockname()[1], "secret": self._secret})
        write_secret(self._folder / CONTROL, told)
        works = (
            control.serve_forever(),
            self._see_the_folder_go(),
            *(agent.watch() for agent in self._agents.values()),
        )
        ended, _ = await asyncio.wait(map(asyncio.create_task, works), return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        del agents  # kept until here: a server that nobody holds is closed
        # Nobody would find the lab again to end it.
        kill_all([process for process in left_by_lab(self._folder) if process.pid != os.getpid()])

    async def _see_the_folder_go(self) -> None:
        while self._folder.exists():  # noqa: ASYNC110 - of its end nobody tells
            await asyncio.sleep(_FOLDER_EVERY_S)

    async def _take_orders(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                writer.write(json.dumps(await self._do(_order_in(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _do(self, order: Mapping[str, str]) -> Mapping[str, object]:
        if not secrets.compare_digest(order.get("secret", "").encode(), self._secret.encode()):
            return {"error": "The switchboard takes no orders from strangers."}
        match order:
            case {"do": "links"}:
                return {"links": {name: link.mode for name, link in self._links.items()}}
            case {"do": "link", "name": name, "mode": mode} if name in self._links:
                try:
                    await self._links[name].set_mode(mode)
                except ValueError as error:
                    return {"error": str(error)}
                return {}
            case {"do": "agent", "name": name, "state": "ready" | "drain" | "maint" as state} if name in self._agents:
                self._agents[name].state = state
                return {}
        return {"error": f"The switchboard does not know {order.get('name')!r}."}


def _order_in(line: bytes) -> Mapping[str, str]:
    """Return what somebody wants; of what is no order, one that nobody gives."""
    try:
        order = json.loads(line)
    except ValueError:
        return {}
    return {name: str(value) for name, value in order.items()} if isinstance(order, dict) else {}


if __name__ == "__main__":
    asyncio.run(Board(Path(sys.argv[1])).run())
