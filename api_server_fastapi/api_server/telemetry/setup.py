"""Turns telemetry on for a process, where the settings say so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from api_server.daemon_thread import DaemonThread
from api_server.edge_settings import ObservabilitySettings
from api_server.exceptions import StartError
from api_server.telemetry.spans import use_recorder

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

# What is not delivered by then is lost: a collector that hangs keeps nobody from leaving.
_LEAVE_S = 1.5

# FastAPI's metrics would double our own, its logs hold the texts of errors, its spans of an operation its steps.
_UNUSED: "TelemetryConfig" = {"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}

_PARTS = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Telemetry:
    """The telemetry of an app; off, as this one is."""

    def for_fastapi(self, exclude: Callable[[Scope], bool]) -> "TelemetryConfig":  # noqa: ARG002 - for one that is on
        """Return what FastAPI is told, which makes a span for each request and socket that is not excluded."""
        return {"tracing": False, **_UNUSED}

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Send spans for as long as the context lasts."""
        yield


class _Recorded(Telemetry):
    def __init__(self, provider: "TracerProvider", make_exporter: Callable[[], "SpanExporter"]) -> None:
        self._provider = provider
        self._make_exporter = make_exporter

    def for_fastapi(self, exclude: Callable[[Scope], bool]) -> "TelemetryConfig":
        from api_server.telemetry.tracing import CarefulProvider  # noqa: PLC0415 - off, nothing of it is loaded

        def is_excluded(scope: Any) -> bool:  # noqa: ANN401 - FastAPI's word for a scope
            return exclude(scope)

        return {"tracing": True, "tracer_provider": CarefulProvider(self._provider), "exclude": is_excluded, **_UNUSED}

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

        exporter = self._make_exporter()
        try:
            processor = BatchSpanProcessor(exporter)
        except ValueError as error:
            raise StartError(f"The variables OTEL_BSP_* contradict each other: {error}") from error
        self._provider.add_span_processor(processor)
        try:
            yield
        finally:
            use_recorder(None)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await DaemonThread(processor.shutdown, name="the last spans").outcome()
            # Where they could not be delivered, nobody tries again.
            exporter.shutdown()


def set_up_telemetry(settings: ObservabilitySettings, name: str, version: str) -> Telemetry:
    """Have what this process does recorded as the settings say, in the name of a service; by default, nothing is.

    Raises StartError where what records is not installed.
    """
    if settings.telemetry == "off":
        use_recorder(None)
        return Telemetry()
    require_installed(settings)
    # Here, because a service without telemetry has no use for it.
    from api_server.telemetry.delivery import console_exporter, otlp_exporter  # noqa: PLC0415 - see above
    from api_server.telemetry.tracing import OtelRecorder, make_provider  # noqa: PLC0415 - see above

    provider = make_provider(name, version, settings.telemetry_ratio)
    use_recorder(OtelRecorder(provider))
    return _Recorded(provider, console_exporter if settings.telemetry == "console" else otlp_exporter)


def require_installed(settings: ObservabilitySettings) -> None:
    """Raise StartError where the settings ask for telemetry, and what makes it is not installed."""
    if settings.telemetry != "off" and not all(map(_is_installed, _PARTS)):
        raise StartError(
            f"API_SERVER_TELEMETRY is {settings.telemetry}, and what records spans is not installed: "
            "pip install 'api-server[telemetry]', or set API_SERVER_TELEMETRY to off."
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
