"""Stored plans: what a client asked, what was answered, and the promise that it stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from throttling_sequencer.domain.game import GameState
from throttling_sequencer.domain.navigation import ScoreParts

KEY_LIMIT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUnitPlan:
    """The plan of one player unit; `unit` and `target` are the places of the two in the game state."""

    unit: int
    target: int
    throttles: tuple[int, ...]
    score_parts: ScoreParts
    lower_bound: float | None
    final_speed: float
    distance_covered: float

    @property
    def score(self) -> float:
        return self.score_parts.total

    @property
    def gap(self) -> float | None:
        """How far the score is above the lower bound, where one was proven."""
        return None if self.lower_bound is None else self.score - self.lower_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What was asked, as it was asked; `targets` and `budget_ms` are None where they were left to the service."""

    game_state: GameState
    strategy: str | None = None
    budget_ms: int | None = None
    seed: int | None = None
    targets: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan that is kept.

    `plan_id` is a UUID whose order is that of time. `key` names the request among those of its owner: whoever asks
    again by it gets this plan. `request_hash` tells whether it is the same request, `strategy` and `seed` are what was
    planned with (`seed` is None where the strategy has no randomness), `attempts` counts how often it was to be kept.
    """

    plan_id: UUID
    owner_id: str
    key: str
    request_hash: bytes
    request: PlanRequest
    strategy: str
    seed: int | None
    units: Sequence[StoredUnitPlan]
    created_at: datetime
    attempts: int = 1

    @property
    def size(self) -> int:
        """How many numbers it holds, about: what it costs to keep it and to show it."""
        state = self.request.game_state
        asked = 5 * (len(state.player_units) + len(state.enemy_units))
        return asked + sum(9 + len(unit.throttles) for unit in self.units)


@dataclass(frozen=True, slots=True)
class StoredPlanPage:
    """Some plans, newest first, and whether there are older ones."""

    plans: Sequence[StoredPlan]
    has_next: bool


class AsyncStoredPlanRepository(Protocol):
    """Keeps plans. Each method tries for at most `within_s` seconds.

    Then it raises StorageUnavailableError where nothing was kept, and OutcomeUnknownError where that is not known.
    """

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        """Keep a plan, unless its owner has one under its key, and return the one that is kept.

        It returns when the plan is as durable as the storage makes anything, whoever of several calls brought it.
        """
        ...

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        """Return the plan that an owner has under a key, None where there is none; when, as `add`."""
        ...

    async def get(self, owner_id: str | None, plan_id: UUID, *, within_s: float) -> StoredPlan | None:
        """Return a plan of an owner, or for None of anybody; None where there is none."""
        ...

    async def newest(
        self, owner_id: str | None, limit: int, before: UUID | None = None, *, most_numbers: int, within_s: float
    ) -> StoredPlanPage:
        """Return up to `limit` plans of an owner, or for None of everybody, newest first.

        Only those older than the plan `before`.

        Fewer, but at least one, where the sizes of more would be beyond `most_numbers` together.
        """
        ...
