"""The report that is kept fresh in the background."""

import asyncio

from api_server.readiness_pipeline import (
    ReadinessCheck,
    ReadinessCheckResult,
    ReadinessPipeline,
    ReadinessStage,
    ReadinessState,
)
from api_server.services.health_check_service import HealthCheckService


class Switch(ReadinessCheck):
    def __init__(self) -> None:
        super().__init__("switch")
        self.on = True
        self.runs = 0
        self.ran = asyncio.Event()

    async def _execute(self) -> ReadinessCheckResult:
        self.runs += 1
        self.ran.set()
        return self.success("on") if self.on else self.failed("off")


def service_of(switch: Switch) -> HealthCheckService:
    pipeline = ReadinessPipeline([ReadinessStage("stage", [switch])])
    return HealthCheckService(pipeline, period=0.03, period_while_failing=0.01)


async def test_there_is_a_report_before_anybody_can_ask() -> None:
    service = service_of(Switch())
    assert service.is_stale
    async with service.refreshing():
        assert service.report.state is ReadinessState.OPERATIONAL
        assert not service.is_stale


async def test_the_report_follows_what_happens() -> None:
    switch = Switch()
    service = service_of(switch)
    async with service.refreshing():
        for on, state in ((False, ReadinessState.DEGRADED), (True, ReadinessState.OPERATIONAL)):
            switch.on = on
            async with asyncio.timeout(2):
                while service.report.state is not state:
                    switch.ran.clear()
                    await switch.ran.wait()
                    await asyncio.sleep(0)


async def test_asking_runs_no_check() -> None:
    switch = Switch()
    service = service_of(switch)
    await service.refresh()
    for _ in range(100):
        assert service.report.stages
    assert switch.runs == 1


async def test_a_report_that_is_no_longer_made_gets_stale() -> None:
    service = service_of(Switch())
    await service.refresh()
    await asyncio.sleep(0.1)  # three periods and more: it is their passing that is tested
    assert service.is_stale


async def test_refreshing_ends_with_its_context() -> None:
    service = service_of(Switch())
    async with service.refreshing():
        pass
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "readiness refresh"] == []
