"""What a log line costs: structlog alone, and structlog handing over to loguru as the service does (ADR 3)."""

import io
import statistics
import time
from typing import Any

import structlog
from api_server.logging import configure_logging

LINES = 20_000
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Write lines of the same shape by both ways, in turns; medians of microseconds a line, and their ratio."""
    rounds = [(_microseconds(_structlog_alone), _microseconds(_with_hop)) for _ in range(ROUNDS)]
    alone = statistics.median(alone for alone, _ in rounds)
    hop = statistics.median(hop for _, hop in rounds)
    return {
        "structlog_us": round(alone, 2),
        "structlog_and_loguru_us": round(hop, 2),
        "ratio": round(statistics.median(hop / alone for alone, hop in rounds), 2),
    }


def _structlog_alone() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        logger_factory=structlog.WriteLoggerFactory(io.StringIO()),
        cache_logger_on_first_use=False,
    )


def _with_hop() -> None:
    structlog.reset_defaults()
    configure_logging("INFO", "json", io.StringIO())


def _microseconds(configure: Any) -> float:  # noqa: ANN401 - one of the two above
    configure()
    structlog.contextvars.bind_contextvars(request_id="0123456789abcdef", user_id="developer")
    log = structlog.get_logger()
    begun = time.perf_counter()
    for number in range(LINES):
        log.info("request answered", method="GET", path="/livez", status=200, number=number)
    return (time.perf_counter() - begun) / LINES * 1e6
