"""How late an event loop is, and who keeps it from turning."""

import asyncio
import gc
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from api_server.metrics import Metrics

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
PAUSE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

# A stall begins somewhere between two ticks, and counts from the second.
_TICK_S = 0.025
_TICK_OF_LIMIT = 0.1
_SHORTEST_TICK_S = 0.01
# The highest lag is told for half a minute to a minute, so that whoever asks four times in it sees it.
_WINDOW_S = 30.0
_QUIET_S = 10.0
_MOST_FRAMES = 20
_STOP_S = 1.0
_MOST_PAUSES = 1000
_ASYNCIO = str(Path(asyncio.__file__).parent)

log = structlog.get_logger("api_server.loop")


@dataclass(eq=False, slots=True)
class _Turn:
    """The time from one tick to the next, which is due at `due`."""

    due: float
    computed: float
    """What the loop's thread had computed at its beginning, in seconds."""
    stack: list[str] | None = None
    """Where the loop was when this had lasted for too long."""
    is_told: bool = False


class LoopWatch:
    """Measures how late the event loop is, and logs who blocks it for longer than `limit_s`; at 0 nobody is logged.

    An incident has two lines: one with the stack as soon as it has lasted for so long, and one with its duration at its
    end. Of those that begin within ten seconds after, only the number is told. That the whole process stood still, by a
    signal or because the machine slept, is no incident: no code is to be blamed for it.
    """

    def __init__(self, metrics: Metrics, limit_s: float) -> None:
        self._limit_s = limit_s
        self._tick_s = max(_SHORTEST_TICK_S, min(_TICK_S, limit_s * _TICK_OF_LIMIT)) if limit_s else _TICK_S
        self._lags = metrics.histogram(
            "event_loop_lag_seconds", "How much later than it should the event loop turned.", buckets=LAG_SECONDS
        )
        self._blocked = metrics.counter("event_loop_blocked", "Times that the event loop was blocked beyond the limit.")
        self._highest = _Highest()
        metrics.gauge("event_loop_lag_max_seconds", "The highest lag of the last minute.", self._lag_max, workers="max")
        self._pauses = _CollectorPauses(metrics)
        self._thread_id = 0
        self._turn = _Turn(float("inf"), 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._quiet_until = float("-inf")
        self._untold = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the running loop for as long as the context lasts."""
        self._thread_id = threading.get_ident()
        self._expect(time.monotonic())
        watchdog = threading.Thread(target=self._watch, name="event loop watchdog", daemon=True)
        if self._limit_s:
            watchdog.start()
        self._pauses.start()
        try:
            yield
        finally:
            self._pauses.stop()
            if self._timer is not None:
                self._timer.cancel()
            self._stopped.set()
            if watchdog.is_alive():
                # It may be writing a line, to somebody who does not read.
                watchdog.join(_STOP_S)

    def _expect(self, now: float) -> None:
        self._turn = _Turn(now + self._tick_s, _computed_by(self._thread_id))
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        turn, now = self._turn, time.monotonic()
        lag = max(0.0, now - turn.due)
        self._lags.observe(lag)
        self._highest.remember(lag, now)
        self._pauses.tell()
        # Where nothing was noticed, and nothing was computed, nobody ran.
        if self._limit_s and lag > self._limit_s and (turn.stack or self._computes(turn, lag)):
            self._end(turn, lag, now)
        self._expect(now)

    def _end(self, turn: _Turn, lag: float, now: float) -> None:
        self._blocked.inc()
        if not turn.is_told and now < self._quiet_until:
            self._untold += 1
            return
        self._quiet_until = now + _QUIET_S
        # What holds the interpreter too lets nobody look.
        told = {} if turn.is_told else {"stack": turn.stack or ["it was not interpreted meanwhile"]}
        log.warning("event loop turns again", blocked_ms=round(lag * 1000), untold=self._untold, **told)
        self._untold = 0

    def _lag_max(self) -> float:
        # Whoever asks may come before the tick.
        now = time.monotonic()
        return max(self._highest.as_of(now), now - self._turn.due)

    def _watch(self) -> None:
        """Look whether the loop has turned, each time when it should have by all means."""
        turn = self._turn
        deadline = turn.due + self._limit_s
        while not self._stopped.wait(max(0.0, deadline - time.monotonic())):
            now = time.monotonic()
            if self._turn is not turn:
                turn = self._turn
                deadline = turn.due + self._limit_s
                continue
            did_run = now - deadline < self._limit_s / 2
            if turn.stack is None and (did_run or self._computes(turn, now - turn.due)):
                self._notice(turn, now)
            deadline = now + self._limit_s

    def _notice(self, turn: _Turn, now: float) -> None:
        turn.stack = _stack_of(self._thread_id)
        if turn.stack and now >= self._quiet_until:
            turn.is_told = True
            log.warning("event loop blocked", limit_ms=round(self._limit_s * 1000), stack=turn.stack)

    def _computes(self, turn: _Turn, seconds: float) -> bool:
        """Whether the loop's thread had the processor for most of this time."""
        return _computed_by(self._thread_id) - turn.computed > seconds / 2


class _Highest:
    """The highest of what was remembered in this window of time and the one before."""

    def __init__(self) -> None:
        self._until = 0.0
        self._values = (0.0, 0.0)

    def remember(self, value: float, now: float) -> None:
        current, _ = self._as_of(now)
        if value > current:
            self._values = value, self._values[1]

    def as_of(self, now: float) -> float:
        return max(self._as_of(now))

    def _as_of(self, now: float) -> tuple[float, float]:
        if now >= self._until:
            self._values = (0.0, self._values[0] if now < self._until + _WINDOW_S else 0.0)
            self._until = now + _WINDOW_S
        return self._values


class _CollectorPauses:
    """For how long the collector of cycles held everybody up, but for its shortest collections, of new objects."""

    def __init__(self, metrics: Metrics) -> None:
        pauses = metrics.histogram(
            "python_gc_pause_seconds", "Pauses by the garbage collector.", "generation", buckets=PAUSE_SECONDS
        )
        self._by_generation = {generation: pauses.labels(str(generation)) for generation in (1, 2)}
        # It may come in the middle of anything, a metric's lock included: what it took is told later.
        self._untold: deque[tuple[int, float]] = deque(maxlen=_MOST_PAUSES)
        self._began = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._notice)

    def stop(self) -> None:
        gc.callbacks.remove(self._notice)

    def tell(self) -> None:
        while self._untold:
            generation, seconds = self._untold.popleft()
            self._by_generation[generation].observe(seconds)

    def _notice(self, phase: str, info: dict[str, int]) -> None:
        generation = info["generation"]
        if generation not in self._by_generation:
            return
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._untold.append((generation, time.perf_counter() - self._began))


def _stack_of(thread_id: int) -> list[str]:
    """Name the places where a thread is within what its event loop called, the innermost last; none where it waits.

    Places only: a variable may hold a secret.
    """
    places: list[str] = []
    frame: FrameType | None = sys._current_frames().get(thread_id)  # noqa: SLF001 - there is no other way
    while frame is not None and not _is_of_loop(frame, "_run", "run", "run_forever", "run_until_complete"):
        if _is_of_loop(frame, "_run_once"):
            return []
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        frame = frame.f_back
    return places[:_MOST_FRAMES][::-1]


def _is_of_loop(frame: FrameType, *functions: str) -> bool:
    return frame.f_code.co_name in functions and frame.f_code.co_filename.startswith(_ASYNCIO)


def _computed_by(thread_id: int) -> float:
    """Return the seconds that a living thread has had the processor; 0 where the system does not tell."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return 0.0
    try:
        return time.clock_gettime(clock_of(thread_id))
    except OSError:
        return 0.0
