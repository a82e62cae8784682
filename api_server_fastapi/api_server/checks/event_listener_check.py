"""Whether this process hears of what happens in others."""

from typing import Protocol

from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult


class EventListener(Protocol):
    """What listens to other processes."""

    @property
    def is_listening(self) -> bool:
        """Whether what other processes publish now is heard."""

    @property
    def reason(self) -> str | None:
        """Why this is not listening, for operators; None while it is."""


class EventListenerCheck(ReadinessCheck):
    """Succeeds while a listener listens, and warns otherwise: the service works, on what it read some time ago."""

    def __init__(self, listener: EventListener) -> None:
        super().__init__("event_listener")
        self._listener = listener

    async def _execute(self) -> ReadinessCheckResult:
        if self._listener.is_listening:
            return self.success("hears of what happens in other processes")
        return self.warning(
            "does not hear of what happens in other processes: what it holds may be out of date",
            {"reason": self._listener.reason},
        )
