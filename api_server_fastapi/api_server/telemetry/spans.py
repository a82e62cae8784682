"""What code says of the time that it takes, whether somebody listens or not.

    tracer = Tracer("orders")
    with tracer.span("order.price", articles=3) as pricing:
        ...
        pricing.set(discount=True)

Attributes are numbers, and words of a known set: never what a client or a user wrote.
"""

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, TypeAlias

Attribute: TypeAlias = str | int | float | bool

_NO_IDS: Mapping[str, str] = MappingProxyType({})


class Span:
    """Nothing: what is given where no trace is recorded. One that is recorded overrides all of it.

    Within the context it is the one that others are part of. An error that leaves the context is told by its class.
    """

    __slots__ = ()

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will see it."""
        return False

    def set(self, **attributes: Attribute) -> None:
        """Say more about it."""

    def rename(self, name: str) -> None:
        """Name it by what became known."""

    def child(self, name: str, **attributes: Attribute) -> "Span":  # noqa: ARG002 - for those that are recorded
        """Begin a part of it, in whichever task this is called; `end` ends that."""
        return self

    def end(self) -> None:
        """End what `child` began; a second time, do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""


NO_SPAN = Span()


class Recorder(Protocol):
    """What records spans where telemetry is on."""

    def span(self, scope: str, name: str, attributes: Mapping[str, Attribute], *, or_trace: bool) -> Span: ...
    def trace(self, scope: str, name: str, attributes: Mapping[str, Attribute]) -> Span: ...
    def ids(self) -> Mapping[str, str]: ...


class _Process:
    """What this process has in use."""

    recorder: Recorder | None = None


def use_recorder(recorder: Recorder | None) -> None:
    """Have this process's spans recorded from now on, or no more."""
    _Process.recorder = recorder


def is_tracing() -> bool:
    """Whether this process records spans at all."""
    return _Process.recorder is not None


def trace_ids() -> Mapping[str, str]:
    """Return `trace_id` and `span_id` of where this is called, for log lines; nothing outside of a trace."""
    recorder = _Process.recorder
    return _NO_IDS if recorder is None else recorder.ids()


class Tracer:
    """Makes the spans of one part of the software, which `scope` names."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def span(self, name: str, /, **attributes: Attribute) -> Span:
        """Begin a part of the trace that this is called in; outside of one, nothing."""
        recorder = _Process.recorder
        return NO_SPAN if recorder is None else recorder.span(self._scope, name, attributes, or_trace=False)

    def span_or_trace(self, name: str, /, **attributes: Attribute) -> Span:
        """Begin a part of the trace that this is called in; outside of one, a trace."""
        recorder = _Process.recorder
        return NO_SPAN if recorder is None else recorder.span(self._scope, name, attributes, or_trace=True)

    def trace(self, name: str, /, **attributes: Attribute) -> Span:
        """Begin a trace of its own, with a link to the one that this is called in."""
        recorder = _Process.recorder
        return NO_SPAN if recorder is None else recorder.trace(self._scope, name, attributes)
