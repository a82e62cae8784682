"""Plans that are kept: made once for each key, and answered only when they will stay."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID

from throttling_sequencer.application.cursors import cursor_of, id_of
from throttling_sequencer.application.deadline import Clock, Deadline
from throttling_sequencer.application.mappers import GameStateShape, to_game_state
from throttling_sequencer.application.owners import listed_owner, require_owner
from throttling_sequencer.application.plan_requests import plain, request_hash
from throttling_sequencer.application.planned_units import PlannedUnit
from throttling_sequencer.application.planning import (
    AllowanceSpentError,
    LaneBrokenError,
    LaneFullError,
    Planning,
    PlanningLimits,
    PlanningTimedOutError,
    ShareTakenError,
)
from throttling_sequencer.application.turns import in_turns
from throttling_sequencer.domain.errors import (
    IdempotencyKeyReusedError,
    InvalidValueError,
    OutcomeUnknownError,
    PlanNotFoundError,
    StorageUnavailableError,
)
from throttling_sequencer.domain.navigation import SEED_LIMIT
from throttling_sequencer.domain.rules import require_between
from throttling_sequencer.domain.stored_plan import (
    KEY_LIMIT,
    AsyncStoredPlanRepository,
    PlanRequest,
    StoredPlan,
    StoredUnitPlan,
)

T = TypeVar("T")

MOST_IN_PAGE = 100

# Of all plans of a page together: some 2 MB of JSON.
MOST_NUMBERS = 100_000

# Of the whole time, for planning; the rest is for keeping the plan.
_PLANNING_SHARE = 0.75

# How long the storage may take to say whether a key is new, before planning begins.
_MOMENT_S = 0.1


class PlanNotKeptError(StorageUnavailableError):
    """A request has kept no plan, for certain; an earlier one by the same key may have."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.args = (f"this request could keep no plan just now; ask again by the idempotency key {key}",)


class PlanInDoubtError(OutcomeUnknownError):
    """A plan may be kept."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.args = (f"the plan may have been kept; ask again by the idempotency key {key} to find out",)


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A plan that is kept; `is_replayed` says that it is that of an earlier request."""

    plan: StoredPlan
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class StoredPlanList:
    """Some plans, newest first, and the cursor of the last one."""

    plans: Sequence[StoredPlan]
    end_cursor: str | None
    has_next: bool


def require_key(field: str, key: str) -> None:
    """Raise InvalidValueError unless a key may be one."""
    if not (1 <= len(key) <= KEY_LIMIT and key.isascii() and key.isprintable()):
        raise InvalidValueError(field, f"should be 1 to {KEY_LIMIT} printable ASCII characters")


class StoredPlanEvents(Protocol):
    """Hears what an operator should know about stored plans."""

    def failed(self, code: str, reason: str) -> None:
        """Hear of a call that the storage did not answer, or not for certain."""


class StoredPlans:
    """Keeps plans for their owners, each of whom sees their own only; an administrator sees everybody's.

    No method takes longer than `deadline_ms`; then each raises StorageUnavailableError, or, for what may have been
    kept, OutcomeUnknownError. `new_id` makes UUIDs whose order is that of time.
    """

    def __init__(
        self,
        planning: Planning,
        repository: AsyncStoredPlanRepository,
        limits: PlanningLimits,
        events: StoredPlanEvents,
        *,
        deadline_ms: int,
        new_id: Callable[[], UUID],
        clock: Clock = time.monotonic,
    ) -> None:
        self._planning = planning
        self._repository = repository
        self._limits = limits
        self._events = events
        self._deadline_ms = deadline_ms
        self._most_budget_ms = max(1, int(deadline_ms * _PLANNING_SHARE))
        self._new_id = new_id
        self._clock = clock

    async def store(
        self,
        game_state: GameStateShape,
        *,
        asker: str,
        key: str | None = None,
        strategy: str | None = None,
        budget_ms: int | None = None,
        seed: int | None = None,
        targets: Sequence[int] | None = None,
        while_planning: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> KeptPlan:
        """Plan as `Planning.plan` does and keep the plan for who asks, under a key; without one, it is made up.

        For a key of an earlier request of theirs, that one's plan is returned, at no cost; where it was another
        request, IdempotencyKeyReusedError is raised. Planning, which may be abandoned, happens within `while_planning`.
        Raises also what planning raises; the errors that ask for another try name the key.
        """
        deadline = self._deadline()
        require_owner("owner_id", asker)
        if key is not None:
            require_key("idempotency_key", key)
        if budget_ms is not None and budget_ms > self._most_budget_ms:
            rule = f"should be at most {self._most_budget_ms}, for there has to be time to keep the plan"
            raise InvalidValueError("budget_ms", rule)
        state = plain(to_game_state(game_state, self._limits.max_units))
        self._planning.require_acceptable(state, strategy=strategy, budget_ms=budget_ms, seed=seed, targets=targets)
        request = PlanRequest(
            game_state=state,
            strategy=strategy,
            budget_ms=budget_ms,
            seed=seed,
            targets=None if targets is None else tuple(targets),
        )
        asked = await request_hash(request)
        name = str(self._new_id()) if key is None else key
        async with self._naming(name):
            found, is_new = await self._found_soon(asker, key, deadline)
            if found is not None:
                return _same(found, asked, is_replayed=True)
            drawn = random.randint(0, SEED_LIMIT) if seed is None else seed
            try:
                async with while_planning():
                    planned = await _within(deadline, self._planned(request, drawn, asker))
            except (AllowanceSpentError, ShareTakenError, LaneFullError, LaneBrokenError, PlanningTimedOutError):
                if not is_new and (found := (await self._found_soon(asker, key, deadline))[0]) is not None:
                    return _same(found, asked, is_replayed=True)
                raise
            # Not before: what is listed by its id is listed by when it was made.
            plan_id = self._new_id()
            plan = StoredPlan(
                plan_id=plan_id,
                owner_id=asker,
                key=name,
                request_hash=asked,
                request=request,
                strategy=planned[0].strategy,
                seed=None if all(unit.seed is None for unit in planned) else drawn,
                units=tuple([unit async for unit in in_turns(map(_stored, planned))]),
                created_at=datetime.now(UTC),
            )
            kept = await self._repository.add(plan, within_s=_left(deadline))
        return _same(kept, asked, is_replayed=kept.plan_id != plan_id)

    async def get(self, plan_id: UUID, *, asker: str, is_admin: bool = False) -> StoredPlan:
        """Return a plan of who asks, or to an administrator anybody's. Raises PlanNotFoundError."""
        require_owner("owner_id", asker)
        async with self._telling():
            owner_id = None if is_admin else asker
            found = await self._repository.get(owner_id, plan_id, within_s=self._deadline().seconds_left)
        if found is None:
            raise PlanNotFoundError(plan_id)
        return found

    async def page(
        self,
        first: int,
        after: str | None = None,
        *,
        asker: str,
        is_admin: bool = False,
        owner: str | None = None,
        most_numbers: int = MOST_NUMBERS,
    ) -> StoredPlanList:
        """Return the `first` (1 to 100) newest plans of who asks, those after a cursor of an earlier page.

        `owner` names somebody else, or everybody by `*`. Fewer, but at least one, where they would hold more than
        `most_numbers`. Raises NotAdminError, and InvalidValueError for a size or a cursor that is none.
        """
        owner_id = listed_owner(owner, asker=asker, is_admin=is_admin)
        require_between("first", first, 1, MOST_IN_PAGE)
        before = None if after is None else id_of(after, "after")
        async with self._telling():
            page = await self._repository.newest(
                owner_id, first, before, most_numbers=most_numbers, within_s=self._deadline().seconds_left
            )
        end_cursor = cursor_of(page.plans[-1].plan_id) if page.plans else None
        return StoredPlanList(page.plans, end_cursor, page.has_next)

    def _deadline(self) -> Deadline:
        return Deadline(self._deadline_ms / 1000, self._clock)

    async def _found_soon(self, owner_id: str, key: str | None, deadline: Deadline) -> tuple[StoredPlan | None, bool]:
        """Return the plan of an earlier request, and whether it is certain that there is none.

        A storage that does not say so in a moment is not waited for: `add` finds out. So after an outage not all who
        waited are to be looked for, and then planned for, at once.
        """
        if key is None:
            return None, True
        try:
            found = await self._repository.find_again(owner_id, key, within_s=min(_MOMENT_S, _left(deadline)))
        except (StorageUnavailableError, OutcomeUnknownError):
            return None, False
        return found, found is None

    @asynccontextmanager
    async def _naming(self, key: str) -> AsyncIterator[None]:
        """Tell whoever should ask again by which key: it may have been made here."""
        async with self._telling():
            try:
                yield
            except StorageUnavailableError as error:
                raise PlanNotKeptError(key, error.reason) from error
            except OutcomeUnknownError as error:
                raise PlanInDoubtError(key, error.reason) from error

    @asynccontextmanager
    async def _telling(self) -> AsyncIterator[None]:
        """Tell operators why the storage did not do what it should."""
        try:
            yield
        except (StorageUnavailableError, OutcomeUnknownError) as error:
            self._events.failed(error.code, error.reason)
            raise

    async def _planned(self, request: PlanRequest, seed: int, asker: str) -> Sequence[PlannedUnit]:
        return await self._planning.plan(
            request.game_state,
            asker=asker,
            strategy=request.strategy,
            budget_ms=request.budget_ms or min(self._planning.default_budget_ms, self._most_budget_ms),
            seed=seed,
            targets=request.targets,
        )


def _same(plan: StoredPlan, asked: bytes, *, is_replayed: bool) -> KeptPlan:
    """Return what is kept under a key, if it is what was asked."""
    if plan.request_hash != asked:
        raise IdempotencyKeyReusedError("idempotency_key")
    return KeptPlan(plan, is_replayed)


def _stored(planned: PlannedUnit) -> StoredUnitPlan:
    return StoredUnitPlan(
        unit=planned.unit,
        target=planned.target,
        throttles=planned.throttles,
        score_parts=planned.score_parts,
        lower_bound=planned.lower_bound,
        final_speed=planned.final_speed,
        distance_covered=planned.distance_covered,
    )


async def _within(deadline: Deadline, planning: Awaitable[T]) -> T:
    seconds = deadline.seconds_left
    try:
        async with asyncio.timeout(seconds):
            return await planning
    except TimeoutError as error:
        raise PlanningTimedOutError(round(seconds * 1000)) from error


def _left(deadline: Deadline) -> float:
    if not (seconds := deadline.seconds_left):
        raise StorageUnavailableError("no time is left")
    return seconds
