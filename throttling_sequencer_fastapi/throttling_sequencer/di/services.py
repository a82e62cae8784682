"""Which implementation stands for which type in a server. Swapping one is a change of this package alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import svcs
from api_server.services.registry import ServiceRegistry
from api_server.telemetry import is_tracing

from throttling_sequencer.application.live_goals import LiveGoals, Pace
from throttling_sequencer.application.planning import Planning, PlanningAllowance, PlanningLane, PlanningLimits
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import Part
from throttling_sequencer.di.planning import STRATEGIES, lane_planner, register_planning, warm_up
from throttling_sequencer.di.presets import register_presets
from throttling_sequencer.di.request_log import register_request_log
from throttling_sequencer.di.stored_plans import register_stored_plans
from throttling_sequencer.infrastructure.lane import ProcessLane
from throttling_sequencer.infrastructure.traced_lane import TracedLane


@dataclass(frozen=True, slots=True)
class Limits:
    """The `PlanningLimits` that the settings say."""

    max_units: int
    max_trajectory_units: int
    max_budget_ms: int
    processes: int
    strategies: tuple[str, ...]
    default_strategy: str


def adjust_registry(registry: ServiceRegistry, *swaps: Part) -> None:
    """Register everything that a server needs; `swaps` register other implementations of what planning needs.

    The parts of planning are module-level functions: the planning processes register them too.
    """
    parts = (register_planning, *swaps)
    for part in parts:
        part(registry)
    registry.register_singleton(ProcessLane, partial(_lane, parts))
    registry.register_singleton(PlanningLane, _watched_lane)
    registry.register_singleton(PlanningAllowance, _allowance)
    # None of these has a state: one of each serves every request.
    registry.register_singleton(PlanningLimits, _limits)
    registry.register_singleton(Planning, svcs.autowire(Planning))
    registry.register_singleton(Pace, _pace)
    registry.register_singleton(LiveGoals, svcs.autowire(LiveGoals))
    register_presets(registry)
    register_request_log(registry)
    register_stored_plans(registry)


def _watched_lane(svcs_container: svcs.Container) -> PlanningLane:
    from api_server.metrics import Metrics  # noqa: PLC0415 - a command line measures nothing

    from throttling_sequencer.infrastructure.measured_lane import MeasuredLane  # noqa: PLC0415 - as above

    settings = svcs_container.get(SequencerSettings)
    lane = MeasuredLane(svcs_container.get(ProcessLane), svcs_container.get(Metrics), settings.path_finder)
    return TracedLane(lane) if is_tracing() else lane


def _lane(parts: Sequence[Part], svcs_container: svcs.Container) -> ProcessLane:
    settings = svcs_container.get(SequencerSettings)
    return ProcessLane(
        partial(lane_planner, *parts),
        workers=settings.lane_workers,
        max_waiting=settings.lane_waiting,
        max_waiting_ms=settings.lane_waiting_ms,
        warm_up=warm_up,
    )


def _allowance(svcs_container: svcs.Container) -> PlanningAllowance:
    from throttling_sequencer.infrastructure.planning_allowance import (  # noqa: PLC0415 - a command line limits nobody
        MemoryAllowance,
    )

    settings = svcs_container.get(SequencerSettings)
    return MemoryAllowance(settings.planning_allowance_ms, settings.lane_waiting_ms * settings.lane_workers // 2)


def _limits(svcs_container: svcs.Container) -> PlanningLimits:
    settings = svcs_container.get(SequencerSettings)
    return Limits(
        settings.max_units,
        settings.max_trajectory_units,
        settings.max_budget_ms,
        settings.lane_workers,
        tuple(STRATEGIES),
        settings.path_finder,
    )


def _pace(svcs_container: svcs.Container) -> Pace:
    return Pace(svcs_container.get(SequencerSettings).step_interval_ms)
