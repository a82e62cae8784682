"""Runs a uvicorn factory: where it listens, with how many workers, and how it stops."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

import structlog
import uvicorn
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings
from uvicorn.supervisors import ChangeReload

from api_server.draining import STUCK
from api_server.exceptions import StartError
from api_server.head_limit import ShortHeadProtocol
from api_server.metric_files import shared_metrics
from api_server.settings import Settings, get_settings, settings_config
from api_server.socket_protocol import BoundedSocketProtocol, give_up_on_who_does_not_read
from api_server.supervisor import LingeringServer, Supervisor

_BACKLOG = 2048
# Of the time in which a process leaves, what is kept for its subscribers, queues, pools and the interpreter.
_CLOSING = 0.2
# A client that does not answer is gone after twice as long.
_PING_S = 20.0
_SOCKET_FRAME_LIMIT = 64 * 1024

log = structlog.get_logger("api_server.server")


class UvicornServerConfig(BaseSettings):
    """`UVICORN_*`: how the service is reached and how many processes answer."""

    model_config = settings_config("UVICORN_")

    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    workers: int = Field(default=1, ge=1, le=64, description="processes that answer")
    reload: bool = Field(default=False, description="start again when a source file changes; for development")
    root_path: str = Field(default="", description="the path under which a proxy serves this service")
    forwarded_allow_ips: str = Field(
        default="",
        description="addresses and networks of proxies whose `X-Forwarded-For` and `-Proto` are believed, separated by "
        "commas; unset: nobody's",
    )
    timeout_keep_alive: int = Field(default=5, ge=1, le=3600, description="seconds an idle connection is kept")
    timeout_graceful_shutdown: int = Field(
        default=8,
        ge=1,
        le=3600,
        description="seconds requests may take to end; less where `API_SERVER_LEAVE_WITHIN_S` leaves less",
    )

    @model_validator(mode="after")
    def _reload_means_one_worker(self) -> Self:
        if self.reload and self.workers > 1:
            raise ValueError("UVICORN_RELOAD goes with one worker; set UVICORN_WORKERS to 1 or leave it out.")
        return self

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        named = [part.strip() for part in value.split(",") if part.strip()]
        for part in named:
            try:
                _ = part == "*" or ip_network(part)
            except ValueError as error:
                raise ValueError(
                    f"UVICORN_FORWARDED_ALLOW_IPS should hold addresses and networks, separated by commas, or be *; "
                    f"{part!r} is none."
                ) from error
        if "*" in named and len(named) > 1:
            raise ValueError("UVICORN_FORWARDED_ALLOW_IPS should be * alone, or addresses and networks.")
        return ",".join(named)

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


@contextmanager
def listening(config: UvicornServerConfig) -> Iterator[socket.socket]:
    """Hold the service's socket, so that a port that is taken is known before anything else is started.

    It listens at once, which makes the port this process's alone; who connects early waits for the first answer.
    Raises StartError where the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # By name: asyncio lets small answers go at once only on a socket that says that it is TCP's.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(
                f"Cannot listen on {config.host}:{config.port}: {reason}. Set UVICORN_HOST to an address of this "
                "machine and UVICORN_PORT to a port that is free; 0 takes any."
            ) from error
        give_up_on_who_does_not_read(listener)
        listener.set_inheritable(True)
        yield listener


def serve(
    factory: str, config: UvicornServerConfig, listener: socket.socket, *, log_config: Path | None = None
) -> None:
    """Serve the app that `factory` (`module:function`) makes, until SIGINT or SIGTERM; then return.

    Exits the process with status 3 where the app does not start, and with 70 where a worker did not end by itself.
    Raises StartError where the app cannot be made, however many workers would make it.
    """
    if get_settings().believed == "development" and not config.is_loopback:
        log.warning("development identity on a public address: everybody is believed", host=config.host)
    uvicorn_config = uvicorn.Config(
        factory,
        factory=True,
        lifespan="on",
        host=config.host,
        port=config.port,
        workers=config.workers,
        reload=config.reload,
        reload_dirs=_source_folders(factory) if config.reload else None,
        root_path=config.root_path,
        proxy_headers=bool(config.forwarded_allow_ips),
        forwarded_allow_ips=config.forwarded_allow_ips,
        timeout_keep_alive=config.timeout_keep_alive,
        timeout_graceful_shutdown=_grace(config, get_settings()),
        log_config=str(log_config) if log_config else None,
        # A GraphQL operation is small; so is what one socket may make this process hold. Compression would hold 64 KiB
        # of history for each.
        ws_max_size=_SOCKET_FRAME_LIMIT,
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        ws=BoundedSocketProtocol,
        http=ShortHeadProtocol,
        # LogContextMiddleware writes the line about a request, with its id and duration.
        access_log=False,
        server_header=False,
    )
    lingers = get_settings().drain_delay > 0
    # uvicorn raises SIGINT again when it is done, so that its caller can stop too: this caller returns.
    with suppress(KeyboardInterrupt), shared_metrics(config.workers):
        if uvicorn_config.should_reload:
            server = LingeringServer(uvicorn_config, lingers=lingers)
            reloader = ChangeReload(uvicorn_config, target=server.run, sockets=[listener])
            reloader.run()
            if reloader.process.exitcode == STUCK:
                raise SystemExit(STUCK)
        elif config.workers > 1:
            supervisor = Supervisor(
                uvicorn_config,
                listener,
                within=get_settings().leave_within_s,
                lingers=lingers,
                prepare=exit_on_signals,
            )
            if status := supervisor.run():
                raise SystemExit(status)
        else:
            LingeringServer(uvicorn_config, lingers=lingers).run(sockets=[listener])


def exit_on_signals() -> None:
    """Make SIGTERM end the process by SystemExit(0), so that every context that is open is left properly.

    SIGHUP, the end of a terminal, counts as SIGTERM; several workers are replaced one by one on it instead.
    """

    def leave(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
        raise SystemExit(0)

    def terminate(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        # Whoever handles SIGTERM by then, uvicorn while it serves, knows how to stop in good order.
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, terminate)


def _grace(config: UvicornServerConfig, settings: Settings) -> int:
    """Return how many seconds requests in flight have, so that the process is gone in time."""
    left = int(settings.leave_within_s * (1 - _CLOSING) - settings.drain_delay)
    if config.timeout_graceful_shutdown <= left:
        return config.timeout_graceful_shutdown
    if "timeout_graceful_shutdown" in config.model_fields_set:
        log.warning(
            "requests get less time to end than UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN says",
            seconds=max(left, 0),
            leave_within_s=settings.leave_within_s,
            drain_delay_s=settings.drain_delay,
        )
    return max(left, 0)


def _source_folders(factory: str) -> list[str]:
    """Return the folders of the packages whose sources make up the service."""
    packages = {"api_server", factory.partition(".")[0], (get_settings().app or "api_server").partition(".")[0]}
    specs = [find_spec(package.partition(":")[0]) for package in sorted(packages)]
    return [str(Path(spec.origin).parent) for spec in specs if spec is not None and spec.origin is not None]
