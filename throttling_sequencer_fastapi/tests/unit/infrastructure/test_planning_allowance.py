"""One budget of planning for each principal: many at once do not overdraw it, and what is left is told truly."""

import threading

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, tuples
from throttling_sequencer.application.planning import AllowanceSpentError, ShareTakenError
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.infrastructure.planning_allowance import MemoryAllowance


class Clock:
    """The wall clock, as the counters read it."""

    def __init__(self) -> None:
        # The begin of a minute.
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("limits.storage.memory.time", clock)
    return clock


def use(allowance: MemoryAllowance, used_ms: float, principal: str = "ann") -> None:
    reserved = max(1, round(used_ms))
    allowance.reserve(principal, reserved)
    allowance.settle(principal, reserved, used_ms)


def retry_after(allowance: MemoryAllowance, process_ms: int, principal: str = "ann") -> int | None:
    """Return after how many seconds so much is said to be left; None where it is."""
    try:
        allowance.reserve(principal, process_ms)
    except AllowanceSpentError as refusal:
        return refusal.retry_after_s
    allowance.settle(principal, process_ms, 0.0)
    return None


def test_many_at_once_do_not_overdraw(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    for _ in range(10):
        allowance.reserve("ann", 100)
    with pytest.raises(AllowanceSpentError, match=r"^this may take 1 ms of planning, and less is left of the 1000 ms"):
        allowance.reserve("ann", 1)
    allowance.reserve("bob", 1000)


def test_what_was_not_used_is_there_again(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    for _ in range(5000):
        use(allowance, 0.1)
    assert retry_after(allowance, 500) is None
    assert retry_after(allowance, 501) is not None


def test_thousands_of_short_plans_with_long_budgets_cost_what_they_take(clock: Clock) -> None:
    """An optimal plan takes a millisecond of the second that it may have; 64 are asked for at a time."""
    allowance = MemoryAllowance(128_000, share_ms=128_000)
    for _ in range(30):
        for _ in range(64):
            allowance.reserve("ann", 1000)
        for _ in range(64):
            allowance.settle("ann", 1000, 1.0)
    assert retry_after(allowance, 128_000 - 30 * 64) is None
    assert retry_after(allowance, 128_000 - 30 * 64 + 1) is not None


def test_who_takes_the_processes_for_longer_is_refused(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    use(allowance, 600.0)
    use(allowance, 400.0)
    assert retry_after(allowance, 1) is not None
    assert retry_after(allowance, 1000, "bob") is None


def test_a_search_that_overran_costs_what_there_is(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    allowance.reserve("ann", 10)
    allowance.settle("ann", 10, 5000.0)
    assert retry_after(allowance, 1) == 61
    clock.now += 90
    assert retry_after(allowance, 500) is None
    assert retry_after(allowance, 501) is not None


class TestWhileOthersAsk:
    @pytest.fixture
    def allowance(self, clock: Clock) -> MemoryAllowance:
        return MemoryAllowance(100_000, share_ms=3000, clock=clock.time)

    def test_nobody_fills_the_lane_for_good(self, allowance: MemoryAllowance) -> None:
        for _ in range(10):
            allowance.reserve("ann", 1000)
        use(allowance, 1.0, "bob")
        with pytest.raises(ShareTakenError, match=r"^half of the planning that may wait is yours already"):
            allowance.reserve("ann", 1000)
        allowance.reserve("bob", 1000)

    def test_what_one_holds_falls_below_the_share_again(self, allowance: MemoryAllowance) -> None:
        for _ in range(4):
            allowance.reserve("ann", 1000)
        use(allowance, 1.0, "bob")
        allowance.settle("ann", 1000, 1000.0)
        with pytest.raises(ShareTakenError):
            allowance.reserve("ann", 1000)
        allowance.settle("ann", 1000, 1000.0)
        allowance.reserve("ann", 1000)

    def test_a_single_plan_may_be_larger_than_the_share(self, allowance: MemoryAllowance) -> None:
        use(allowance, 1.0, "bob")
        allowance.reserve("ann", 20_000)

    def test_who_is_alone_again_may_have_all_of_it(self, allowance: MemoryAllowance, clock: Clock) -> None:
        use(allowance, 1.0, "bob")
        for _ in range(3):
            allowance.reserve("ann", 1000)
        with pytest.raises(ShareTakenError):
            allowance.reserve("ann", 1000)
        clock.now += 10
        allowance.reserve("ann", 1000)

    def test_each_request_of_another_counts_from_when_it_came(self, allowance: MemoryAllowance, clock: Clock) -> None:
        for _ in range(3):
            allowance.reserve("ann", 1000)
        for _ in range(5):
            clock.now += 6
            use(allowance, 1.0, "bob")
            with pytest.raises(ShareTakenError):
                allowance.reserve("ann", 1000)


@given(
    begun=floats(0, 59),
    uses=lists(tuples(floats(0, 50), integers(1, 1000)), max_size=8),
    wanted=integers(1, 1000),
    held=integers(0, 500),
)
def test_after_the_time_that_is_told_there_is_enough_and_not_much_before(
    begun: float, uses: list[tuple[float, int]], wanted: int, held: int
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("limits.storage.memory.time", clock)
        clock.now += begun
        allowance = MemoryAllowance(1000, share_ms=1000)
        for pause, used in uses:
            clock.now += pause
            if retry_after(allowance, used) is None:
                use(allowance, used)
        if held and retry_after(allowance, held) is None:
            allowance.reserve("ann", held)
        else:
            held = 0
        seconds = retry_after(allowance, wanted)
        if seconds is None:
            return
        assert 1 <= seconds <= 120
        if held:
            allowance.settle("ann", held, held)
        then = clock.now
        if seconds > 2:
            clock.now = then + seconds - 1.5
            assert retry_after(allowance, wanted) is not None
        clock.now = then + seconds
        assert retry_after(allowance, wanted) is None


def test_who_has_nothing_planned_leaves_nothing_behind(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    for number in range(10_000):
        use(allowance, 1.0, f"user {number}")
    assert len(allowance) == 10_000
    clock.now += 121
    for number in range(5_001):
        use(allowance, 1.0, f"late {number % 10}")
    assert len(allowance) == 10
    assert len(allowance._storage.locks) <= 20


def test_what_is_refused_is_not_counted(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    for number in range(100):
        allowance.reserve(f"user {number}", 10)
        allowance.settle(f"user {number}", 10, 0.0)
    assert len(allowance) == 0


def test_counting_begins_no_thread(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    begun: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", begun.append)
    for _ in range(20):
        use(allowance, 1.0)
    assert begun == []
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


@pytest.mark.parametrize("principal", ["", "a/b", "ann/1000000/1/minute", "*", "\u0130", "x" * 255])
def test_no_name_is_taken_for_another(clock: Clock, principal: str) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    use(allowance, 1000.0, principal)
    for other in ("ann", "a", "b", "i", "x" * 254, principal + "/"):
        assert retry_after(allowance, 1000, other) is None


@pytest.mark.parametrize("timeout_ms", [20, 1000])
@pytest.mark.parametrize("workers", [1, 2, 32])
def test_by_default_one_may_begin_128_searches_and_keep_all_processes_busy(
    clock: Clock, workers: int, timeout_ms: int
) -> None:
    """A search for each of 128 sockets at once; and every process for minutes, with as much waiting as may wait."""
    settings = SequencerSettings(lane_workers=workers, timeout_ms=timeout_ms)
    allowance = MemoryAllowance(settings.planning_allowance_ms, share_ms=1)
    for _ in range(128):
        allowance.reserve("ann", timeout_ms)
    for _ in range(128):
        allowance.settle("ann", timeout_ms, 0.0)
    allowance.reserve("ann", settings.lane_waiting_ms * workers)
    for _ in range(200_000 // timeout_ms):
        allowance.reserve("ann", timeout_ms * workers)
        clock.now += timeout_ms / 1000
        allowance.settle("ann", timeout_ms * workers, timeout_ms * workers)


def test_the_settings_say_how_much_it_is() -> None:
    assert SequencerSettings(principal_planning_ms=7).planning_allowance_ms == 7
    assert SequencerSettings(lane_workers=2).planning_allowance_ms == 128 * 1000 + 2 * 65_000


def test_the_clock_may_be_set_back(clock: Clock) -> None:
    allowance = MemoryAllowance(1000, share_ms=1000)
    use(allowance, 1000.0)
    clock.now -= 3600
    assert retry_after(allowance, 1000) is None
