"""The readiness of the listener: who does not hear of others works, and says so."""

from dataclasses import dataclass

from api_server.checks.event_listener_check import EventListenerCheck
from api_server.readiness_pipeline import CheckStatus


@dataclass
class ScriptedListener:
    is_listening: bool
    reason: str | None = None


async def test_who_listens_is_ready() -> None:
    result = await EventListenerCheck(ScriptedListener(is_listening=True)).run()
    assert (result.name, result.status) == ("event_listener", CheckStatus.SUCCESS)


async def test_who_does_not_listen_warns_and_tells_operators_why() -> None:
    listener = ScriptedListener(is_listening=False, reason="connection refused")
    check = EventListenerCheck(listener)
    result = await check.run()
    assert result.status is CheckStatus.WARNING
    assert "out of date" in result.message
    assert "refused" not in result.message
    assert result.details == {"reason": "connection refused"}
    listener.is_listening = True
    assert (await check.run()).status is CheckStatus.SUCCESS
