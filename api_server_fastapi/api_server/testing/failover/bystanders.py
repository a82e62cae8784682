"""What must be answered all the time, whatever happens to the database."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

from api_server.testing.failover.ledger import NoAnswerError

Bystander = Callable[[], AsyncIterator[None]]
"""Asks again and again, and yields at each answer; raises NoAnswerError, OSError or TimeoutError where one is missing.

It is begun anew whenever it ended or raised."""

_PAUSE_S = 0.1


@dataclass(slots=True)
class Observation:
    """When something was answered, by `time.monotonic`, and what went wrong between begin and end."""

    answered_at: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    began_at: float | None = None
    ended_at: float | None = None

    @property
    def longest_gap_ms(self) -> float:
        """The longest time without an answer, also before the first and after the last one."""
        moments = [self.began_at, *self.answered_at, self.ended_at]
        gaps = (later - earlier for earlier, later in pairwise(moment for moment in moments if moment is not None))
        return round(max(gaps, default=0.0) * 1000, 1)


async def observe(bystander: Bystander, observation: Observation) -> None:
    """Write down what becomes of a bystander until this is cancelled."""
    observation.began_at = time.monotonic()
    while True:
        try:
            async with aclosing(cast("AsyncGenerator[None]", bystander())) as answers:
                async for _ in answers:
                    observation.answered_at.append(time.monotonic())
        except NoAnswerError as error:
            observation.failures.append(error.code)
        except (OSError, TimeoutError) as error:
            observation.failures.append(type(error).__name__)
        await asyncio.sleep(_PAUSE_S if observation.failures else 0)
