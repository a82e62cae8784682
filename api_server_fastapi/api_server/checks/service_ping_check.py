"""Whether a service that says how to be pinged answers."""

import inspect
from collections.abc import Awaitable, Callable

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

Ping = Callable[[], Awaitable[None] | None]


class ServicePingCheck(ReadinessCheck):
    """Succeeds where the ping of a registered service does not raise. A plain one runs in a thread of the check's."""

    def __init__(self, name: str, ping: Ping) -> None:
        super().__init__(f"ping_{name}")
        self._ping = ping

    def _execute(self) -> ReadinessCheckResult | Awaitable[ReadinessCheckResult]:
        answer = self._ping()
        return self._awaited(answer) if inspect.isawaitable(answer) else self.success("answers")

    async def _awaited(self, answer: Awaitable[None]) -> ReadinessCheckResult:
        await answer
        return self.success("answers")
