"""Requests to log, a storage that can be away, and ears for what is told of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.request_log import GqlRequest, Outcome


def request(number: int, user_id: str = "alice", unix_time: float = 1_000_000.0) -> GqlRequest:
    """Return a request whose id counts."""
    return GqlRequest(UUID(int=number), "socket-1", "Goals", user_id, unix_time, 12.5, Outcome.SUCCESS)


@dataclass
class Storage:
    """A repository that can be away, be slow, or refuse single requests."""

    kept: list[GqlRequest] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    refused: set[UUID] = field(default_factory=set)
    forgotten: list[float] = field(default_factory=list)
    is_away: bool = False
    tries: int = 0
    room: asyncio.Event | None = None

    async def add(self, requests: Sequence[GqlRequest]) -> None:
        self.tries += 1
        if self.room is not None:
            await self.room.wait()
        await asyncio.sleep(0)
        if self.is_away:
            raise StorageUnavailableError("it is away")
        if any(one.operation_id in self.refused for one in requests):
            raise ValueError("that cannot be kept")
        self.batches.append(len(requests))
        self.kept.extend(requests)

    async def newest(self, user_id: str | None, limit: int, before: UUID | None = None) -> list[GqlRequest]:
        found = [
            one for one in self.kept if user_id in (None, one.user_id) and (before is None or one.operation_id < before)
        ]
        return sorted(found, key=lambda one: one.operation_id, reverse=True)[:limit]

    async def delete_older_than(self, unix_time: float) -> int:
        self.forgotten.append(unix_time)
        return 0


@dataclass
class Heard:
    """What was told, one word for each time."""

    told: list[str] = field(default_factory=list)

    def interrupted(self, reason: str) -> None:
        self.told.append(f"interrupted: {reason}")

    def resumed(self, dropped: int) -> None:
        self.told.append(f"resumed, dropped {dropped}")

    def dropping(self, capacity: int) -> None:
        self.told.append(f"dropping beyond {capacity}")

    def failed(self, error: Exception) -> None:
        self.told.append(f"failed: {error}")

    def left_behind(self, number: int) -> None:
        self.told.append(f"left behind: {number}")
