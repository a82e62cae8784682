"""Plans are kept once for each key, within one time, and whoever should ask again is told by which key."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import pytest
from plan_cases import stored_plan, unit
from planning_doubles import NoAllowance, configured
from throttling_sequencer.application.owners import NotAdminError
from throttling_sequencer.application.planning import (
    UNWATCHED,
    AllowanceSpentError,
    LaneFullError,
    Planning,
    PlanningAllowance,
    PlanningTask,
    PlanningTimedOutError,
    PlanningWatch,
)
from throttling_sequencer.application.stored_plans import StoredPlans
from throttling_sequencer.domain.errors import (
    IdempotencyKeyReusedError,
    InvalidValueError,
    OutcomeUnknownError,
    PlanNotFoundError,
    StorageUnavailableError,
    UnknownStrategyError,
)
from throttling_sequencer.domain.game import GameState
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import ScoreParts, ThrottlePlan
from throttling_sequencer.domain.stored_plan import StoredPlan, StoredPlanPage
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.repositories.in_memory_stored_plan_repository import (
    InMemoryStoredPlanRepository,
)

STATE = GameState((unit(), unit(1.0)), (unit(5000.0),))
FIRST_ID = UUID(int=1)


class Lane:
    """A lane that plans at once, with the seed that it is given where the strategy has randomness."""

    def __init__(self) -> None:
        self.tasks: list[PlanningTask] = []
        self.error: Exception | None = None
        self.takes_for_ever = False

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        self.tasks.append(task)
        if self.error:
            raise self.error
        if self.takes_for_ever:
            await asyncio.Event().wait()
        seed = None if task.strategy == "optimal" else task.budget.seed
        plan = ThrottlePlan((5, 0), ScoreParts(1.0, 0.5, 0.25, 0.125), seed=seed, lower_bound=1.0)
        return [UnitPlan(course.unit_index, course.target_index, plan, 3.0, 4.0, 5.0) for course in task.courses]


class Ears:
    """Hears what operators would."""

    heard: ClassVar[list[tuple[str, str]]] = []

    def failed(self, code: str, reason: str) -> None:
        self.heard.append((code, reason))


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Repository(InMemoryStoredPlanRepository):
    """A repository that takes its time, remembers how long it was given, and fails when it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.takes_s = 0.0
        self.given_s: dict[str, float] = {}
        self.errors: dict[str, Exception] = {}
        self.most_numbers = 0

    def _called(self, method: str, within_s: float) -> None:
        self.given_s[method] = within_s
        self._clock.now += self.takes_s
        if method in self.errors:
            raise self.errors[method]

    async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
        self._called("add", within_s)
        return await super().add(plan, within_s=within_s)

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        self._called("find_again", within_s)
        return await super().find_again(owner_id, key, within_s=within_s)

    async def get(self, owner_id: str | None, plan_id: UUID, *, within_s: float) -> StoredPlan | None:
        self._called("get", within_s)
        return await super().get(owner_id, plan_id, within_s=within_s)

    async def newest(
        self, owner_id: str | None, limit: int, before: UUID | None = None, *, most_numbers: int, within_s: float
    ) -> StoredPlanPage:
        self._called("newest", within_s)
        self.most_numbers = most_numbers
        return await super().newest(owner_id, limit, before, most_numbers=most_numbers, within_s=within_s)


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(clock: Clock) -> Repository:
    return Repository(clock)


@pytest.fixture
def plans(lane: Lane, clock: Clock, repository: Repository) -> StoredPlans:
    return make_plans(lane, clock, repository)


def make_plans(
    lane: Lane,
    clock: Clock,
    repository: Repository,
    deadline_ms: int = 10_000,
    allowance: PlanningAllowance | None = None,
) -> StoredPlans:
    limits = SimpleNamespace(
        max_units=2,
        max_trajectory_units=0,
        max_budget_ms=60_000,
        processes=2,
        strategies=("genetic", "random", "optimal"),
        default_strategy="random",
    )
    planning = Planning(lane, configured(GeneticConfiguration(timeout_ms=70)), limits, allowance or NoAllowance())
    ids = map(UUID, (f"00000000-0000-0000-0000-{number:012}" for number in range(1, 1000)))
    return StoredPlans(
        planning, repository, limits, Ears(), deadline_ms=deadline_ms, new_id=lambda: next(ids), clock=clock
    )


async def test_what_was_planned_is_kept(plans: StoredPlans, lane: Lane) -> None:
    kept = await plans.store(STATE, asker="ann", key="k", strategy="genetic", budget_ms=90, seed=4, targets=[0, 0])
    assert not kept.is_replayed
    plan = kept.plan
    assert (plan.plan_id, plan.owner_id, plan.key, plan.strategy, plan.seed) == (FIRST_ID, "ann", "k", "genetic", 4)
    assert plan.request.game_state == STATE
    request = plan.request
    assert (request.strategy, request.budget_ms, request.seed, request.targets) == ("genetic", 90, 4, (0, 0))
    assert [(unit.unit, unit.target, unit.throttles, unit.score, unit.gap) for unit in plan.units] == [
        (0, 0, (5, 0), 1.875, 0.875),
        (1, 0, (5, 0), 1.875, 0.875),
    ]
    assert plan.created_at.utcoffset() is not None
    assert (lane.tasks[0].budget.timeout_ms, lane.tasks[0].budget.seed, lane.tasks[0].strategy) == (90, 4, "genetic")
    assert await plans.get(plan.plan_id, asker="ann") == plan


async def test_what_is_left_to_the_service_is_kept_as_left_to_it(plans: StoredPlans) -> None:
    request = (await plans.store(STATE, asker="ann")).plan.request
    assert (request.strategy, request.budget_ms, request.seed, request.targets) == (None, None, None, None)


async def test_a_seed_is_drawn_for_the_whole_plan(plans: StoredPlans, lane: Lane) -> None:
    kept = [await plans.store(STATE, asker="ann") for _ in range(5)]
    drawn = [task.budget.seed for task in lane.tasks]
    assert [one.plan.seed for one in kept] == drawn
    assert None not in drawn
    assert len(set(drawn)) > 1
    assert kept[0].plan.strategy == "random"


@pytest.mark.parametrize("seed", [None, 7])
async def test_a_strategy_without_randomness_has_no_seed(plans: StoredPlans, seed: int | None) -> None:
    kept = await plans.store(STATE, asker="ann", strategy="optimal", seed=seed)
    assert kept.plan.seed is None
    assert kept.plan.request.seed == seed


async def test_the_same_request_by_the_same_key_is_planned_once(plans: StoredPlans, lane: Lane) -> None:
    first = await plans.store(STATE, asker="ann", key="k")
    second = await plans.store(STATE, asker="ann", key="k")
    assert (first.is_replayed, second.is_replayed) == (False, True)
    assert replace(second.plan, attempts=1) == first.plan
    assert len(lane.tasks) == 1


async def test_without_a_key_each_request_has_its_own(plans: StoredPlans, repository: Repository) -> None:
    kept = [await plans.store(STATE, asker="ann") for _ in range(2)]
    assert len({one.plan.key for one in kept} | {str(one.plan.plan_id) for one in kept}) == 4
    assert [one.is_replayed for one in kept] == [False, False]
    assert "find_again" not in repository.given_s


OTHERS: dict[str, dict[str, Any]] = {
    "game state": {"game_state": GameState((unit(),), (unit(5000.0),))},
    "order of units": {"game_state": GameState((unit(1.0), unit()), (unit(5000.0),))},
    "side": {"game_state": GameState((unit(5000.0),), (unit(), unit(1.0)))},
    "strategy": {"strategy": "random"},
    "budget": {"budget_ms": 70},
    "seed": {"seed": 0},
    "targets": {"targets": [0, 0]},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_another_request_by_the_same_key_is_refused(
    plans: StoredPlans, lane: Lane, other: dict[str, Any]
) -> None:
    await plans.store(STATE, asker="ann", key="k")
    with pytest.raises(IdempotencyKeyReusedError, match=r"^idempotency_key should be a new one"):
        await plans.store(**{"game_state": STATE, **other}, asker="ann", key="k")
    assert len(lane.tasks) == 1


async def test_another_request_that_came_first_meanwhile_is_noticed(plans: StoredPlans, repository: Repository) -> None:
    @asynccontextmanager
    async def while_planning() -> AsyncIterator[None]:
        yield
        await InMemoryStoredPlanRepository.add(repository, stored_plan(99, key="k"), within_s=1)

    with pytest.raises(IdempotencyKeyReusedError):
        await plans.store(STATE, asker="ann", key="k", while_planning=while_planning)


async def test_the_same_request_that_came_first_meanwhile_is_answered(
    plans: StoredPlans, repository: Repository
) -> None:
    @asynccontextmanager
    async def while_planning() -> AsyncIterator[None]:
        yield
        await plans.store(STATE, asker="ann", key="k")

    kept = await plans.store(STATE, asker="ann", key="k", while_planning=while_planning)
    assert kept.is_replayed
    assert kept.plan.plan_id == UUID(int=1)


async def test_a_plan_that_is_found_to_be_kept_already_is_no_replay_of_itself(
    plans: StoredPlans, repository: Repository
) -> None:
    """A commit in doubt is tried again, and finds what it wrote."""

    class Twice(Repository):
        async def add(self, plan: StoredPlan, *, within_s: float) -> StoredPlan:
            await super().add(plan, within_s=within_s)
            return await super().add(plan, within_s=within_s)

    repository.__class__ = Twice
    kept = await plans.store(STATE, asker="ann", key="k")
    assert (kept.is_replayed, kept.plan.attempts) == (False, 2)


NUMBERS = {"x": 0, "y": -0.0, "speed": 3, "mass": 10, "friction": 0}


def shape(**numbers: float) -> Any:
    values = {**NUMBERS, **numbers}
    here = SimpleNamespace(x=values.pop("x"), y=values.pop("y"))
    one = SimpleNamespace(coordinate=here, **values)
    return SimpleNamespace(player_units=[one], enemy_units=[one])


async def test_numbers_that_are_equal_are_the_same_request(plans: StoredPlans) -> None:
    first = await plans.store(shape(), asker="ann", key="k")
    floats = shape(x=0.0, y=0.0, speed=3.0, mass=10.0, friction=-0.0)
    second = await plans.store(floats, asker="ann", key="k", strategy=None, targets=None)
    assert second.is_replayed
    assert second.plan.plan_id == first.plan.plan_id
    assert str(first.plan.request.game_state).count("-0.0") == 0


@pytest.mark.parametrize("key", ["k", "x" * 255, " ", "~", '"', "a b"])
async def test_a_key_may_be_any_printable_ascii(plans: StoredPlans, key: str) -> None:
    assert (await plans.store(STATE, asker="ann", key=key)).plan.key == key


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b", "a\nb", "a\tb", "\x7f", "é", "計", "\ud800"])
async def test_any_other_key_is_refused(plans: StoredPlans, lane: Lane, key: str) -> None:
    with pytest.raises(InvalidValueError, match=r"^idempotency_key should be 1 to 255 printable ASCII characters$"):
        await plans.store(STATE, asker="ann", key=key)
    assert lane.tasks == []


@pytest.mark.parametrize("owner_id", ["x" * 256, "a\x00b", "\udfff"])
async def test_an_owner_that_a_table_cannot_keep_is_refused(plans: StoredPlans, owner_id: str) -> None:
    for call in (
        plans.store(STATE, asker=owner_id),
        plans.get(FIRST_ID, asker=owner_id),
        plans.page(1, asker=owner_id),
    ):
        with pytest.raises(InvalidValueError, match="owner_id"):
            await call


async def test_what_planning_refuses_is_not_kept(plans: StoredPlans, lane: Lane) -> None:
    with pytest.raises(UnknownStrategyError):
        await plans.store(STATE, asker="ann", strategy="magic")
    with pytest.raises(InvalidValueError, match="seed"):
        await plans.store(STATE, asker="ann", seed=-1)
    with pytest.raises(InvalidValueError, match=r"targets\[1\]"):
        await plans.store(STATE, asker="ann", targets=[0, 9])
    with pytest.raises(InvalidValueError, match="budget_ms should be at most 7500,"):
        await plans.store(STATE, asker="ann", budget_ms=7501)
    lane.error = LaneFullError(9.0, 3, 2)
    with pytest.raises(LaneFullError):
        await plans.store(STATE, asker="ann")
    assert (await plans.page(10, asker="ann")).plans == []


async def test_the_parts_of_a_request_share_one_time(plans: StoredPlans, repository: Repository, clock: Clock) -> None:
    repository.takes_s = 4.0
    await plans.store(STATE, asker="ann", key="k")
    assert repository.given_s == {"find_again": 0.1, "add": 6.0}


async def test_when_the_time_is_over_nothing_more_is_tried(plans: StoredPlans, repository: Repository) -> None:
    repository.takes_s = 10.0
    with pytest.raises(StorageUnavailableError):
        await plans.store(STATE, asker="ann", key="k")
    assert repository.given_s == {"find_again": 0.1}


async def test_planning_ends_with_the_time(lane: Lane, clock: Clock, repository: Repository) -> None:
    lane.takes_for_ever = True
    async with asyncio.timeout(2):
        with pytest.raises(PlanningTimedOutError):
            await make_plans(lane, clock, repository, deadline_ms=50).store(STATE, asker="ann")
    assert repository.given_s == {}


async def test_a_search_that_is_left_to_the_service_leaves_time_to_keep_its_plan(
    lane: Lane, clock: Clock, repository: Repository
) -> None:
    await make_plans(lane, clock, repository, deadline_ms=50).store(STATE, asker="ann")
    await make_plans(lane, clock, repository, deadline_ms=5000).store(STATE, asker="ann")
    assert [task.budget.timeout_ms for task in lane.tasks] == [37, 70]


async def test_what_breaks_a_rule_is_told_before_the_storage_is_asked(
    plans: StoredPlans, repository: Repository
) -> None:
    for given in ({"seed": -1}, {"targets": [10**4000, 0]}, {"strategy": "magic"}, {"budget_ms": 0}):
        with pytest.raises(InvalidValueError):
            await plans.store(STATE, asker="ann", key="k", **given)
    assert repository.given_s == {}


@pytest.mark.parametrize("error", [StorageUnavailableError("away"), OutcomeUnknownError("lost")])
async def test_operators_are_told_why(
    plans: StoredPlans, repository: Repository, error: StorageUnavailableError | OutcomeUnknownError
) -> None:
    repository.errors = dict.fromkeys(("add", "get", "newest"), error)
    Ears.heard.clear()
    for call in (plans.store(STATE, asker="ann"), plans.get(FIRST_ID, asker="ann"), plans.page(1, asker="ann")):
        with pytest.raises(type(error)):
            await call
    assert Ears.heard == [(error.code, error.reason)] * 3


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("error", [StorageUnavailableError("away"), OutcomeUnknownError("lost")])
async def test_whoever_should_ask_again_is_told_by_which_key(
    plans: StoredPlans,
    repository: Repository,
    key: str | None,
    error: StorageUnavailableError | OutcomeUnknownError,
) -> None:
    repository.errors["add"] = error
    with pytest.raises(type(error), match=rf"ask again by the idempotency key {key or FIRST_ID}\b") as found:
        await plans.store(STATE, asker="ann", key=key)
    assert isinstance(found.value, StorageUnavailableError | OutcomeUnknownError)
    assert found.value.reason == error.reason


async def test_a_request_is_cancelled_while_it_plans_and_keeps_nothing(
    plans: StoredPlans, lane: Lane, repository: Repository
) -> None:
    lane.takes_for_ever = True
    storing = asyncio.create_task(plans.store(STATE, asker="ann", key="k"))
    while not lane.tasks:
        await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert (await plans.page(10, asker="ann")).plans == []


async def test_only_planning_happens_where_it_may_be_abandoned(plans: StoredPlans, lane: Lane) -> None:
    seen: list[Sequence[object]] = []
    repository = plans._repository
    assert isinstance(repository, Repository)

    @asynccontextmanager
    async def while_planning() -> AsyncIterator[None]:
        seen.append((list(repository.given_s), len(lane.tasks)))
        yield
        seen.append((list(repository.given_s), len(lane.tasks)))

    await plans.store(STATE, asker="ann", key="k", while_planning=while_planning)
    assert seen == [(["find_again"], 0), (["find_again"], 1)]


class TestWhereTheStorageSaysNothing:
    """After an outage it is not asked for the keys, and then the lane for the plans, of all who waited at once."""

    @pytest.fixture
    def silent(self, clock: Clock) -> Repository:
        return SilentRepository(clock)

    async def test_it_is_planned_after_a_moment_and_kept(self, lane: Lane, clock: Clock, silent: Repository) -> None:
        plans = make_plans(lane, clock, silent)
        kept = await plans.store(STATE, asker="ann", key="k")
        again = await plans.store(STATE, asker="ann", key="k")
        assert (kept.is_replayed, again.is_replayed) == (False, True)
        assert again.plan.plan_id == kept.plan.plan_id
        assert silent.given_s["find_again"] <= 0.1

    async def test_another_request_by_the_same_key_is_refused(
        self, lane: Lane, clock: Clock, silent: Repository
    ) -> None:
        plans = make_plans(lane, clock, silent)
        await plans.store(STATE, asker="ann", key="k")
        with pytest.raises(IdempotencyKeyReusedError):
            await plans.store(STATE, asker="ann", key="k", seed=5)

    async def test_the_plan_of_an_earlier_request_is_the_answer_though_planning_is_refused(
        self, lane: Lane, clock: Clock, silent: Repository
    ) -> None:
        plans = make_plans(lane, clock, silent)
        first = await plans.store(STATE, asker="ann", key="k")
        lane.error = LaneFullError(1.0, 5, 1)
        assert isinstance(silent, SilentRepository)
        silent.is_silent_once = True
        assert (await plans.store(STATE, asker="ann", key="k")).plan.plan_id == first.plan.plan_id

    @pytest.mark.parametrize("error", [None, StorageUnavailableError("away"), OutcomeUnknownError("lost")])
    async def test_what_planning_raises_is_raised_for_a_new_key(
        self, lane: Lane, clock: Clock, silent: Repository, error: Exception | None
    ) -> None:
        if error:
            silent.errors["find_again"] = error
        lane.error = LaneFullError(1.0, 5, 1)
        with pytest.raises(LaneFullError):
            await make_plans(lane, clock, silent).store(STATE, asker="ann", key="k")


class SilentRepository(Repository):
    """A repository that finds nothing in a moment, or not the first time."""

    is_silent_once = False
    was_asked = False

    async def find_again(self, owner_id: str, key: str, *, within_s: float) -> StoredPlan | None:
        self.given_s["find_again"] = within_s
        was_asked, self.was_asked = self.was_asked and self.is_silent_once, self.is_silent_once
        if not was_asked:
            raise StorageUnavailableError("no answer in time")
        return await super().find_again(owner_id, key, within_s=within_s)


async def test_somebody_elses_plan_is_not_found(plans: StoredPlans) -> None:
    plan_id = (await plans.store(STATE, asker="ann")).plan.plan_id
    with pytest.raises(PlanNotFoundError, match=str(plan_id)):
        await plans.get(plan_id, asker="bob")
    assert (await plans.page(10, asker="bob")).plans == []


async def test_an_administrator_sees_anybodys_plans(plans: StoredPlans) -> None:
    hers, his = [(await plans.store(STATE, asker=name)).plan for name in ("ann", "bob")]
    assert await plans.get(hers.plan_id, asker="root", is_admin=True) == hers
    shown = {
        owner: (await plans.page(10, asker="root", is_admin=True, owner=owner)).plans
        for owner in (None, "root", "ann", "carol", "*")
    }
    assert shown == {None: [], "root": [], "ann": [hers], "carol": [], "*": [his, hers]}


async def test_who_is_none_lists_nobody_elses_plans(plans: StoredPlans, repository: Repository) -> None:
    for owner in ("bob", "*", ""):
        with pytest.raises(NotAdminError, match=r"^to see what others keep needs the scope admin$"):
            await plans.page(10, asker="ann", owner=owner)
    assert "newest" not in repository.given_s
    assert (await plans.page(10, asker="ann", owner="ann")).plans == []


async def test_an_administrator_has_keys_of_their_own(plans: StoredPlans) -> None:
    hers = (await plans.store(STATE, asker="ann", key="k")).plan
    kept = await plans.store(STATE, asker="root", key="k", seed=5)
    assert (kept.is_replayed, kept.plan.owner_id) == (False, "root")
    assert kept.plan.plan_id != hers.plan_id


async def test_asking_again_costs_nothing(lane: Lane, clock: Clock, repository: Repository) -> None:
    allowance = NoAllowance()
    plans = make_plans(lane, clock, repository, allowance=allowance)
    for _ in range(3):
        await plans.store(STATE, asker="ann", key="k")
    assert allowance.reserved == [("ann", 140)]


async def test_who_has_spent_all_is_still_told_what_is_kept(lane: Lane, clock: Clock, repository: Repository) -> None:
    """Even where the storage could not say at first that it is."""
    allowance = NoAllowance()
    plans = make_plans(lane, clock, repository, allowance=allowance)
    kept = (await plans.store(STATE, asker="ann", key="k")).plan
    allowance.error = AllowanceSpentError(140, 100, 7)
    assert (await plans.store(STATE, asker="ann", key="k")).plan.plan_id == kept.plan_id

    @asynccontextmanager
    async def while_planning() -> AsyncIterator[None]:
        repository.errors.clear()
        yield

    repository.errors["find_again"] = StorageUnavailableError("it is away")
    again = await plans.store(STATE, asker="ann", key="k", while_planning=while_planning)
    assert again.plan.plan_id == kept.plan_id
    with pytest.raises(AllowanceSpentError):
        await plans.store(STATE, asker="ann", key="another")
    assert len(lane.tasks) == 1


async def test_pages_follow_each_other(plans: StoredPlans, repository: Repository) -> None:
    ids = [(await plans.store(STATE, asker="ann")).plan.plan_id for _ in range(5)]
    first = await plans.page(2, asker="ann")
    second = await plans.page(2, first.end_cursor, asker="ann")
    third = await plans.page(2, second.end_cursor, asker="ann")
    found = [plan.plan_id for page in (first, second, third) for plan in page.plans]
    assert found == ids[::-1]
    assert [page.has_next for page in (first, second, third)] == [True, True, False]
    assert repository.given_s["newest"] == 10.0
    assert repository.most_numbers == 100_000


@pytest.mark.parametrize(
    ("first", "after", "field"), [(0, None, "first"), (101, None, "first"), (1, "nonsense", "after")]
)
async def test_a_page_that_cannot_be_is_refused(plans: StoredPlans, first: int, after: str | None, field: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{field} should be"):
        await plans.page(first, after, asker="ann")
