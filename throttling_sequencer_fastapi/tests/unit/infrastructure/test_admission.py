"""Planning is promised by milliseconds, and what is promised is kept as long as searches keep to their budgets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from throttling_sequencer.application.planning import LaneFullError
from throttling_sequencer.infrastructure.admission import CROSSING_MS, Admission, Share

ROUNDING = 1e-3

budgets = st.integers(1, 1000)
sizes = st.lists(st.integers(1, 25), min_size=1, max_size=12)


def admission(workers: int = 2, max_waiting: int = 1000, max_waiting_ms: float = math.inf) -> Admission:
    return Admission(workers, max_waiting, max_waiting_ms)


def refused(planning: Admission, budget: int, now: float) -> LaneFullError:
    with pytest.raises(LaneFullError) as caught:
        planning.admit(budget, [1], now)
    return caught.value


class TestTheWait:
    def test_is_none_while_a_process_is_free(self) -> None:
        planning = admission()
        planning.begin(planning.admit(60_000, [1], 0), 1, 0)
        assert planning.wait(0) == 0

    def test_is_until_the_first_process_is_free_where_nobody_waits(self) -> None:
        planning = admission()
        for budget in (1000, 400):
            planning.begin(planning.admit(budget, [1], 0), 1, 0)
        assert planning.wait(100) == 300 + CROSSING_MS

    def test_counts_those_that_wait(self) -> None:
        planning = admission(workers=1)
        for budget in (100, 200, 300):
            planning.admit(budget, [1], 0)
        assert planning.wait(0) == 600 + 3 * CROSSING_MS

    def test_counts_a_millisecond_for_each_course_at_least(self) -> None:
        planning = admission()
        assert planning.admit(10, [25] * 40, 0).budget == 500
        assert planning.wait(0) == 500 + 40 * CROSSING_MS / 2

    def test_does_not_count_what_was_called_off_or_forgotten(self) -> None:
        planning = admission(workers=1)
        running, waiting = (planning.admit(60_000, [1], 0) for _ in range(2))
        share = planning.begin(running, 1, 0)
        planning.call_off(share, 10)
        planning.forget(waiting)
        assert planning.wait(10) == 0

    @given(st.integers(1, 5), st.lists(st.tuples(budgets, st.floats(0, 300)), max_size=40))
    def test_is_never_too_short(self, workers: int, tasks: list[tuple[int, float]]) -> None:
        planning = admission(workers)
        processes = Processes(planning, workers)
        for budget, later in tasks:
            processes.work(until=processes.now + later)
            planning.admit(budget, [1], processes.now)
        processes.work(until=math.inf)
        assert processes.lateness <= ROUNDING


class Processes:
    """Processes that work on whatever is next, each piece for as long as it may take."""

    def __init__(self, planning: Admission, workers: int) -> None:
        self.planning = planning
        self.workers = workers
        self.shares: list[Share] = []
        self.now = 0.0
        self.lateness = -math.inf
        """By how much a task began later than it was told at most."""

    def work(self, until: float) -> None:
        while True:
            while len(self.shares) < self.workers and (promise := self.planning.next(self.now)) is not None:
                self.lateness = max(self.lateness, self.now - promise.begins_by)
                self.shares.append(self.planning.begin(promise, 1, self.now))
            ends = min(self.shares, key=lambda share: share.until, default=None)
            if ends is None or ends.until > until:
                break
            self.now = ends.until
            self.shares.remove(ends)
            self.planning.end(ends, self.now)
        if math.isfinite(until):
            self.now = until


class TestRefusals:
    def test_name_how_much_is_promised_and_when_to_come_back(self) -> None:
        planning = admission(workers=1, max_waiting_ms=500)
        planning.begin(planning.admit(3000, [1], 0), 1, 0)
        error = refused(planning, 1, 0)
        assert str(error) == "planning is promised for the next 3.0 s, and 0 plans are waiting; try again in 3 s"
        assert error.retry_after_s == 3

    def test_where_too_many_wait_one_of_them_must_begin_before(self) -> None:
        planning = admission(workers=1, max_waiting=1)
        planning.begin(planning.admit(3000, [1], 0), 1, 0)
        planning.admit(3000, [1], 0)
        assert refused(planning, 1, 500).retry_after_s == 3

    def test_where_no_process_is_there_yet_as_many_must_begin_as_are_too_many(self) -> None:
        planning = admission(workers=1, max_waiting=1)
        for _ in range(2):
            planning.admit(3000, [1], 0)
        assert refused(planning, 1, 500).retry_after_s == 3

    def test_where_none_may_wait_what_runs_must_end_before(self) -> None:
        planning = admission(workers=1, max_waiting=0)
        planning.begin(planning.admit(3000, [1], 0), 1, 0)
        assert refused(planning, 1, 1500).retry_after_s == 2

    @given(
        st.integers(1, 4),
        st.integers(0, 5),
        st.integers(0, 2000),
        st.lists(budgets, min_size=1, max_size=40),
        st.booleans(),
    )
    def test_say_truly_when_to_come_back(
        self, workers: int, max_waiting: int, max_waiting_ms: int, tasks: list[int], are_ready: bool
    ) -> None:
        planning = admission(workers, max_waiting, max_waiting_ms)
        processes = Processes(planning, workers)
        for budget in tasks:
            try:
                planning.admit(budget, [1], 0)
            except LaneFullError as error:
                processes.work(until=error.retry_after_s * 1000 + ROUNDING)
                planning.admit(budget, [1], processes.now)
                return
            if are_ready:
                processes.work(until=0)


class TestShares:
    def test_that_of_one_piece_is_the_whole_budget(self) -> None:
        planning = admission()
        assert planning.begin(planning.admit(100, [1], 0), 1, 0).budget == 100

    def test_pieces_at_work_at_once_have_the_time_of_all_processes(self) -> None:
        planning = admission()
        promise = planning.admit(100, [10] * 4, 0)
        assert [planning.begin(promise, 10, 0).budget for _ in range(2)] == [50, 50]

    def test_what_is_left_is_for_those_after_it(self) -> None:
        planning = admission(workers=1)
        promise = planning.admit(100, [5, 5], 0)
        planning.end(planning.begin(promise, 5, 0), 10)
        assert planning.begin(promise, 5, 10).budget == 90

    def test_a_piece_that_begins_late_has_less(self) -> None:
        planning = admission(workers=1)
        promise = planning.admit(100, [1], 0)
        assert planning.begin(promise, 1, 70).budget == 30 + CROSSING_MS

    def test_pieces_of_a_task_that_begins_late_have_what_is_left_until_its_deadline(self) -> None:
        planning = admission()
        promise = planning.admit(100, [10] * 4, 0)
        assert planning.begin(promise, 10, 60).budget == (40 + CROSSING_MS) / 2

    def test_but_a_millisecond_for_each_course(self) -> None:
        planning = admission(workers=1)
        promise = planning.admit(100, [20], 0)
        assert planning.begin(promise, 20, 500).budget == 20

    def test_what_was_lost_has_what_is_left(self) -> None:
        planning = admission(workers=1)
        promise = planning.admit(100, [1], 0)
        share = planning.begin(promise, 1, 0)
        planning.end(share, 40)
        planning.take_back(share)
        assert planning.begin(promise, 1, 40).budget == 60

    @given(st.integers(1, 4), budgets, sizes, st.data())
    def test_a_task_has_its_time_and_no_more(
        self, workers: int, budget: int, pieces: list[int], data: st.DataObject
    ) -> None:
        planning = admission(workers)
        promise = planning.admit(budget, pieces, 0)
        open_shares: list[Share] = []
        now, left = 0.0, list(pieces)
        while left or open_shares:
            if left and len(open_shares) < workers:
                share = planning.begin(promise, left.pop(0), now)
                assert share.budget >= share.courses
                assert share.budget <= promise.budget or share.budget == share.courses
                open_shares.append(share)
                continue
            share = open_shares.pop(0)
            taken = share.budget * data.draw(st.floats(0, 1))
            now = max(now, share.begun + taken)
            planning.end(share, now)
            assert planning.wait(now) >= 0
        assert now <= max(promise.deadline, budget) + sum(pieces) + ROUNDING
        assert planning.wait(now) == 0


class TestTurns:
    def test_tasks_take_turns(self) -> None:
        planning = admission(workers=1)
        big = planning.admit(1000, [25] * 3, 0)
        small = planning.admit(10, [1], 0)
        order = []
        for _ in range(4):
            promise = planning.next(0)
            assert promise is not None
            order.append(promise)
            planning.begin(promise, 25 if promise is big else 1, 0)
        assert order == [big, small, big, big]
        assert planning.next(0) is None

    def test_a_big_one_goes_first_when_it_can_just_about_have_half_of_its_time(self) -> None:
        planning = admission(workers=1)
        big = planning.admit(1000, [25] * 4, 0)
        small = [planning.admit(10, [1], 0) for _ in range(10)]
        planning.begin(big, 25, 0)
        assert planning.next(600) is small[0]
        assert planning.next(1000 + CROSSING_MS - 375) is big

    def test_what_was_lost_is_next(self) -> None:
        planning = admission(workers=1)
        lost, other = (planning.admit(10, [1], 0) for _ in range(2))
        share = planning.begin(lost, 1, 0)
        planning.end(share, 5)
        planning.take_back(share)
        assert planning.next(5) is lost
        planning.begin(lost, 1, 5)
        assert planning.next(5) is other
