"""Writers that ask at a fixed rate, whatever becomes of what they asked before."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from api_server.testing.failover.ledger import Ledger, NoAnswerError, Reply

Send = Callable[[str], Awaitable[Reply]]
"""Asks for a write under a key; raises NoAnswerError, OSError or TimeoutError where what became of it is not known."""

_REMEMBERED = 50


class Writers:
    """Asks through one face after the other, `rate_per_s` times a second, by keys of its own.

    Every `again_every`-th request asks for an earlier key once more, as a client does that is not sure: a number that
    shares no factor with that of the faces has each of them asked again. A `seed` makes the same keys again.
    """

    def __init__(
        self, ledger: Ledger, faces: Mapping[str, Send], *, rate_per_s: float, seed: int, again_every: int = 3
    ) -> None:
        self._ledger = ledger
        self._faces = faces
        self._interval_s = 1 / rate_per_s
        self._again_every = again_every
        self._rng = random.Random(seed)
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._stopping = asyncio.Event()
        self._drain_s = 0.0

    def stop(self, *, drain_s: float) -> None:
        """Ask nothing more; `run` returns when everything is answered, or after so many seconds."""
        self._drain_s = drain_s
        self._stopping.set()

    async def run(self) -> None:
        """Ask until `stop`.

        Who falls behind catches up, so that a busy machine lowers no rate.
        """
        loop = asyncio.get_running_loop()
        asking: set[asyncio.Task[None]] = set()
        begun = loop.time()
        try:
            for number, face in zip(itertools.count(), itertools.cycle(self._faces), strict=False):
                due_at = begun + number * self._interval_s
                if await self._stops_before(due_at):
                    break
                asking.add(asyncio.create_task(self._ask(self._key(number), face, due_at)))
                asking -= _answered(asking)
            if asking:
                await asyncio.wait(asking, timeout=self._drain_s)
            _answered(asking)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _stops_before(self, moment: float) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(max(moment, loop.time())):
                await self._stopping.wait()
        except TimeoutError:
            return self._stopping.is_set()
        return True

    def _key(self, number: int) -> str:
        if number and number % self._again_every == 0:
            return self._rng.choice(self._recent)
        key = f"{self._rng.getrandbits(128):032x}"
        self._recent.append(key)
        return key

    async def _ask(self, key: str, face: str, due_at: float) -> None:
        # The loop's clock is `time.monotonic`.
        number = self._ledger.sent(key, face, due_at)
        try:
            reply = await self._faces[face](key)
        except NoAnswerError as error:
            reply = Reply("unknown", code=error.code)
        except (OSError, TimeoutError) as error:
            reply = Reply("unknown", code=type(error).__name__)
        self._ledger.finished(number, reply)


def _answered(asking: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Return those that are done; raises what one of them did not expect."""
    done = {task for task in asking if task.done()}
    for task in done:
        task.result()
    return done
