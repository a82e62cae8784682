"""Which traces are recorded, whoever asks for it."""

import random
import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

# Traces of clients who ask for it, a second, of each process: enough to follow what one looks for, and no load.
_ASKED_PER_S = 20.0


class BoundedSampler(Sampler):
    """Records this part of the traces that begin here, and of those that begin elsewhere the ones that ask for it.

    Anybody can ask: those beyond `asked_per_s` are recorded no more often than traces that begin here, by dice and not
    by the trace's id, which is the client's choice.
    """

    def __init__(
        self,
        ratio: float,
        *,
        asked_per_s: float = _ASKED_PER_S,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._ratio = ratio
        self._asked = _Allowance(asked_per_s, clock)
        self._dice = dice

    def should_sample(  # noqa: PLR0917 - OpenTelemetry's signature
        self,
        parent_context: Context | None,
        trace_id: int,  # noqa: ARG002 - as above
        name: str,  # noqa: ARG002 - as above
        kind: SpanKind | None = None,  # noqa: ARG002 - as above
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002 - as above
        trace_state: TraceState | None = None,  # noqa: ARG002 - as above
    ) -> SamplingResult:
        if self._is_recorded(trace.get_current_span(parent_context).get_span_context()):
            # Without the client's `tracestate`, a text that would be sent along with every span.
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return f"BoundedSampler{{{self._ratio}}}"

    def _is_recorded(self, parent: trace.SpanContext) -> bool:
        if not parent.is_valid:
            return self._dice() < self._ratio
        if not parent.trace_flags.sampled:
            return False
        return not parent.is_remote or self._asked.takes_one() or self._dice() < self._ratio


class _Allowance:
    """So many a second, and as many at once."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = per_s
        self._at = clock()

    def takes_one(self) -> bool:
        now = self._clock()
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
