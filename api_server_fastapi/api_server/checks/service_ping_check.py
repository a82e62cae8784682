"""Whether a service that says how to be pinged answers."""

from collections.abc import Awaitable, Callable

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult


class ServicePingCheck(ReadinessCheck):
    """Succeeds where the ping of a registered service does not raise."""

    def __init__(self, name: str, ping: Callable[[], Awaitable[None]]) -> None:
        super().__init__(f"ping_{name}")
        self._ping = ping

    async def _execute(self) -> ReadinessCheckResult:
        await self._ping()
        return self.success("answers")
