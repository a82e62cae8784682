"""What a task of the lane tells of its time, whoever listens to it besides."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from api_server.telemetry import Tracer
from api_server.telemetry.spans import use_recorder
from api_server.telemetry.tracing import OtelRecorder
from lane_doubles import task
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from throttling_sequencer.application.planning import (
    UNWATCHED,
    LaneBrokenError,
    LaneFullError,
    PlanningTask,
    PlanningWatch,
)
from throttling_sequencer.domain.unit_plan import UnitPlan
from throttling_sequencer.infrastructure.traced_lane import TracedLane

tracer = Tracer("tests")


class ScriptedLane:
    """Does what a script says, from another task as the real one does."""

    def __init__(self, *script: str) -> None:
        self._script = script

    async def run(self, task: PlanningTask, watch: PlanningWatch = UNWATCHED) -> list[UnitPlan]:
        for step in self._script:
            await asyncio.create_task(self._do(step, watch))
        return []

    async def _do(self, step: str, watch: PlanningWatch) -> None:
        match step:
            case "full":
                raise LaneFullError(1.0, 1, 1)
            case "broken":
                raise LaneBrokenError
            case "admitted":
                watch.admitted(20.0)
            case "begun":
                watch.begun()


class Ears:
    """Hears how a task fares."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def admitted(self, process_ms: float) -> None:
        self.heard.append(process_ms)

    def begun(self) -> None:
        self.heard.append("begun")


@pytest.fixture
def ended() -> Iterator[Callable[[], dict[str, ReadableSpan]]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use_recorder(OtelRecorder(provider))
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    use_recorder(None)


async def test_a_plan_is_what_it_waited_and_what_it_was_searched_for(
    ended: Callable[[], dict[str, ReadableSpan]],
) -> None:
    ears = Ears()
    with tracer.trace("request"):
        await TracedLane(ScriptedLane("admitted", "begun")).run(task(20, courses=3, strategy="random"), ears)
    spans = ended()
    assert list(spans) == ["plan.wait", "plan.search", "plan", "request"]
    assert spans["plan"].attributes == {"units": 3, "strategy": "random", "budget_ms": 20}
    assert [spans[name].parent for name in ("plan.wait", "plan.search")] == [spans["plan"].context] * 2
    assert (spans["plan.wait"].end_time or 0) <= (spans["plan.search"].start_time or 0)
    assert ears.heard == [20.0, "begun"]


@pytest.mark.parametrize(
    ("script", "told"), [(("full",), ["plan.wait"]), (("admitted", "begun", "broken"), ["plan.wait", "plan.search"])]
)
async def test_one_that_fails_tells_how_far_it_came(
    ended: Callable[[], dict[str, ReadableSpan]], script: tuple[str, ...], told: list[str]
) -> None:
    with pytest.raises((LaneFullError, LaneBrokenError)) as raised, tracer.trace("request"):
        await TracedLane(ScriptedLane(*script)).run(task(20))
    spans = ended()
    assert list(spans) == [*told, "plan", "request"]
    assert spans["plan"].attributes is not None
    assert spans["plan"].attributes["strategy"] == "default"
    assert str(spans["plan"].attributes["error.type"]).endswith(raised.type.__name__)


async def test_outside_of_a_trace_only_who_watches_is_told(ended: Callable[[], dict[str, ReadableSpan]]) -> None:
    ears = Ears()
    await TracedLane(ScriptedLane("admitted", "begun")).run(task(20), ears)
    assert (ended(), ears.heard) == ({}, [20.0, "begun"])
