"""A plan's goals as they fall due: one after the other, in real time."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from throttling_sequencer.application.mappers import GameStateShape
from throttling_sequencer.application.planning import Planning
from throttling_sequencer.domain.game import UnitGoal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast goals follow each other: `step_interval_ms` milliseconds from one to the next."""

    step_interval_ms: int


class LiveGoals:
    """Plans, and then tells the goals step by step; what every live face calls."""

    def __init__(self, planning: Planning, pace: Pace) -> None:
        self._planning = planning
        self._pace = pace

    async def generate_steps(
        self, game_state: GameStateShape, *, asker: str, strategy: str | None = None, seed: int | None = None
    ) -> AsyncGenerator[UnitGoal, None]:
        """Plan as `Planning.calculate_throttle_steps` does, which also raises; return the goals as they fall due."""
        goals = await self._planning.calculate_throttle_steps(game_state, asker=asker, strategy=strategy, seed=seed)
        return paced(_held_small(goals), self._pace.step_interval_ms / 1000)


def _held_small(goals: Sequence[UnitGoal]) -> Iterator[UnitGoal]:
    """Hold a plan's goals, which all name one target, as what differs: somebody may watch it for long."""
    target, throttles = goals[0].coordinate, array("q", (goal.throttle for goal in goals))
    return (UnitGoal(target, throttle) for throttle in throttles)


async def paced(items: Iterable[T], interval: float) -> AsyncGenerator[T, None]:
    """Yield the first item at once and each of the others `interval` seconds after the one before.

    A delay is made up for by the next item, so that delays do not add up; one of more than an interval is not.
    """
    clock = asyncio.get_running_loop().time
    due = clock()
    for item in items:
        now = clock()
        if now < due:
            await asyncio.sleep(due - now)
        elif now - due > interval:
            due = now
        yield item
        due += interval
