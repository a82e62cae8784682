"""Which plans the lane takes on, and whose turn it is. Pure arithmetic; every time is in milliseconds."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter

from throttling_sequencer.application.planning import LaneFullError

# What a process is busy with a piece beyond its search: the way there and back.
CROSSING_MS = 2.0


@dataclass(eq=False, slots=True)
class Promise:
    """The planning that a task was promised: its budget, on `width` processes at a time, after a `wait` at most.

    A course takes at least a millisecond, however small the budget is.
    """

    budget: float
    width: int
    pieces: int
    courses: int
    wait: float
    deadline: float = field(init=False)
    left: float = field(init=False)
    """What no piece has been given."""
    all_courses: int = field(init=False)
    has_begun: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.budget = max(self.budget, self.courses / self.width)
        self.left = self.budget * self.width
        self.all_courses = self.courses

    @property
    def outstanding(self) -> float:
        """How long processes will be busy with the pieces that have not begun."""
        return self.left + self.pieces * CROSSING_MS

    @property
    def begins_by(self) -> float:
        return self.deadline - self.budget - CROSSING_MS

    @property
    def is_split(self) -> bool:
        return self.courses < self.all_courses or self.pieces > 1

    @property
    def due(self) -> float:
        """When the courses that have not begun can just about have half of their time."""
        return self.deadline - self.budget * self.courses / self.all_courses / 2

    def start_clock(self, now: float) -> None:
        """Count from now on: the wait, the budget, and the way to the processes."""
        self.deadline = now + self.wait + self.budget + CROSSING_MS

    def share(self, courses: int, now: float) -> float:
        """Return the budget of a piece that begins now: its part of what is left of the task's time."""
        time_left = self.deadline - now
        part = min(self.left, time_left * self.width) * courses / self.courses
        return max(courses, min(part, self.budget, time_left))


@dataclass(eq=False, slots=True)
class Share:
    """The budget of a piece that a process works on."""

    promise: Promise
    courses: int
    budget: float
    begun: float
    until: float


class Admission:
    """Knows how much planning is promised and not yet spent, and promises no more than can begin soon enough."""

    def __init__(self, workers: int, max_waiting: int, max_waiting_ms: float) -> None:
        self._workers = workers
        self._max_waiting = max_waiting
        self._max_waiting_ms = max_waiting_ms
        # Those with pieces that have not begun, in the order of their turns.
        self._unfinished: OrderedDict[Promise, None] = OrderedDict()
        self._running: set[Share] = set()

    def admit(self, budget: float, pieces: Sequence[int], now: float) -> Promise:
        """Promise to plan pieces of so many courses. Raises LaneFullError."""
        wait = self.wait(now)
        waiting = sorted(promise.begins_by for promise in self._unfinished if not promise.has_begun)
        free = self._workers - len(self._running)
        too_late_by = wait - self._max_waiting_ms
        if len(waiting) - free >= self._max_waiting:
            # When fewer than may wait do; where none may, when all that is promised has ended. Both may be overdue.
            fewer = waiting[-self._max_waiting] - now if self._max_waiting else wait
            too_late_by = max(too_late_by, fewer, 1.0)
        if too_late_by > 0:
            raise LaneFullError(wait / 1000, len(waiting), max(1, math.ceil(too_late_by / 1000)))
        promise = Promise(budget, min(self._workers, len(pieces)), len(pieces), sum(pieces), wait)
        promise.start_clock(now)
        self._unfinished[promise] = None
        return promise

    def wait(self, now: float) -> float:
        """Return in how many milliseconds, at most, a process is free for one more task.

        The planning that is promised fills the processes from those that are free first, as water does.
        """
        ends = sorted(self._running_on(now))
        ends = [0.0] * (self._workers - len(ends)) + ends
        outstanding = sum(promise.outstanding for promise in self._unfinished)
        return min((outstanding + busy) / free for free, busy in enumerate(accumulate(ends), 1))

    def outstanding(self, now: float) -> float:
        """Return how long processes will be busy, all added up, with what is promised."""
        return sum(promise.outstanding for promise in self._unfinished) + sum(self._running_on(now))

    def _running_on(self, now: float) -> list[float]:
        """Return for how long each piece that a process works on may go on."""
        return [max(0.0, share.until - now) for share in self._running]

    def next(self, now: float) -> Promise | None:
        """Return the task of which a piece should begin now.

        Tasks take turns, a piece at a time, so that a small one does not wait for the whole of a big one that came
        before. Those that come later would so keep a big one from ending in time: when the courses that it has left
        can just about have half of what they were promised, it goes first.
        """
        due = min((promise for promise in self._unfinished if promise.is_split), key=attrgetter("due"), default=None)
        if due is not None and due.due <= now:
            return due
        return next(iter(self._unfinished), None)

    def begin(self, promise: Promise, courses: int, now: float) -> Share:
        """Give a piece of so many courses its budget."""
        budget = promise.share(courses, now)
        share = Share(promise, courses, budget, now, now + budget + CROSSING_MS)
        promise.left = max(0.0, promise.left - budget)
        promise.courses -= courses
        promise.pieces -= 1
        promise.has_begun = True
        self.forget(promise)
        if promise.pieces:
            self._unfinished[promise] = None
        self._running.add(share)
        return share

    def call_off(self, share: Share, now: float) -> None:
        """Expect that a piece ends any moment."""
        share.until = min(share.until, now)

    def end(self, share: Share, now: float) -> None:
        """Give back to the task what a piece did not use."""
        self._running.remove(share)
        share.promise.left += max(0.0, share.budget - (now - share.begun))

    def take_back(self, share: Share) -> None:
        """Promise once more, and next, what a piece that has ended without an answer was to plan."""
        promise = share.promise
        promise.courses += share.courses
        promise.pieces += 1
        self._unfinished[promise] = None
        self._unfinished.move_to_end(promise, last=False)

    def forget(self, promise: Promise) -> None:
        """Promise nothing more to a task: no piece of it will begin."""
        self._unfinished.pop(promise, None)
