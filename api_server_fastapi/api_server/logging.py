"""One stream of log lines: structlog makes the events, loguru delivers them, and every line has one shape.

A line is `timestamp`, `level`, `logger`, `event`, what is bound to the context (`request_id`, `user_id`, …), within a
trace its `trace_id` and `span_id`, and the event's own keys; as JSON, or readable on a terminal. Records of the
standard library enter by `InterceptHandler`.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO

import structlog
from loguru import logger as loguru_logger

from api_server.settings import LogLevel
from api_server.telemetry import trace_ids

if TYPE_CHECKING:
    from loguru import Record

LogFormat = Literal["auto", "json", "console"]

# Loggers that would say several things a second at the level of the service.
_QUIET_LOGGERS = (
    *("alembic", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "multipart", "numba", "piccolo", "psycopg"),
    *("svcs", "urllib3", "watchfiles", "websockets"),
)
_SQLALCHEMY_LOGGERS = ("sqlalchemy.dialects", "sqlalchemy.engine", "sqlalchemy.orm", "sqlalchemy.pool")


def configure_logging(level: LogLevel = "INFO", log_format: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send structlog, loguru and the standard library's loggers to one stream (stderr) in one shape."""
    is_terminal = (stream or sys.stderr).isatty()
    readable = log_format == "console" or (log_format == "auto" and is_terminal)
    structlog.configure(
        processors=[_deliver_by_loguru],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_NamedLogger,
        cache_logger_on_first_use=False,
    )
    loguru_logger.remove()
    loguru_logger.configure(patcher=_add_context)
    loguru_logger.add(
        stream or _write_to_stderr,
        level=level,
        format=_ReadableLine(colors=is_terminal) if readable else _JsonLine(),
        colorize=False,
        # Both would print the values of variables, secrets among them.
        diagnose=False,
        backtrace=False,
    )
    logging.basicConfig(handlers=[InterceptHandler()], level=level, force=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_about_sockets)


def setup_sqlalchemy_logging(level: LogLevel = "WARNING") -> None:
    """Write SQLAlchemy's lines from this level on: `INFO` has every statement, `DEBUG` its rows.

    The engine hides the parameters of statements all the same.
    """
    for name in _SQLALCHEMY_LOGGERS:
        logging.getLogger(name).setLevel(level)


# What uvicorn says of sockets: how its lines end, and what it takes for an exception of its own.
_SOCKET_CHATTER = ("connection open", "connection closed", "[accepted]", "403")
_BAD_TEXT = "Invalid UTF-8 sequence received from client."


class InterceptHandler(logging.Handler):
    """Hands records of the standard library's loggers to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = loguru_logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        loguru_logger.opt(exception=record.exc_info).bind(logger=record.name).log(level, record.getMessage())


def _about_sockets(record: logging.LogRecord) -> bool:
    """Leave out what LogContextMiddleware writes in one line, with id and duration, and blame nobody for a client."""
    if record.msg == _BAD_TEXT:
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    return record.levelno > logging.INFO or not record.getMessage().endswith(_SOCKET_CHATTER)


def _write_to_stderr(line: str) -> None:
    # Looked up at each line: whoever replaces sys.stderr means the log too.
    sys.stderr.write(line)


class _NamedLogger:
    """Only carries the name given to `structlog.get_logger(name)` to the delivering processor."""

    def __init__(self, name: str = "api_server") -> None:
        self.name = name


def _deliver_by_loguru(logger: _NamedLogger, method: str, event: MutableMapping[str, Any]) -> NoReturn:
    exception = event.pop("exc_info", None)
    if exception is True:
        exception = sys.exc_info()
    message = str(event.pop("event", ""))
    level = "ERROR" if method == "exception" else method.upper()
    # Options are a new logger each time, which the usual line has no use for.
    deliver = loguru_logger.opt(exception=exception) if exception else loguru_logger
    deliver.bind(**{"logger": logger.name, **event}).log(level, message)
    raise structlog.DropEvent


def _add_context(record: "Record") -> None:
    record["extra"] = {**structlog.contextvars.get_contextvars(), **trace_ids(), **record["extra"]}


def _event_dict(record: "Record") -> dict[str, Any]:
    fields = dict(record["extra"])
    event = {
        "timestamp": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "logger": fields.pop("logger", record["name"]),
        "event": record["message"],
        **fields,
    }
    if (raised := record["exception"]) is not None:
        event["exception"] = "".join(traceback.format_exception(raised.type, raised.value, raised.traceback))
    return event


class _JsonLine:
    """A loguru format: renders the record once and refers to the result."""

    def __init__(self) -> None:
        self._render = structlog.processors.JSONRenderer(ensure_ascii=True)

    def __call__(self, record: "Record") -> str:
        record["extra"]["line"] = self._render(None, "", _event_dict(record))
        return "{extra[line]}\n"


class _ReadableLine:
    """The same for a person at a terminal."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)

    def __call__(self, record: "Record") -> str:
        event = _event_dict(record)
        event["timestamp"] = record["time"].strftime("%H:%M:%S.%f")[:-3]
        record["extra"]["line"] = self._render(None, "", event)
        return "{extra[line]}\n"
