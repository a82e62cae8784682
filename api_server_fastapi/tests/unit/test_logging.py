"""One shape of log lines, whoever writes them."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import loguru
import pytest
import structlog
from api_server.database.connection import create_engine
from api_server.local.postgres import PostgresAddress
from api_server.logging import configure_logging, setup_sqlalchemy_logging
from api_server.settings import LogLevel
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    loguru.logger.remove()
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level: LogLevel = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, "json", stream)
    return stream


def test_every_writer_has_the_same_shape() -> None:
    stream = configured()
    structlog.get_logger("mine").info("happened", count=3)
    logging.getLogger("theirs").info("happened %s", "too")
    loguru.logger.bind(count=4).info("happened as well")
    written = lines(stream)
    assert [list(line)[:4] for line in written] == [["timestamp", "level", "logger", "event"]] * 3
    assert [line["event"] for line in written] == ["happened", "happened too", "happened as well"]
    assert [line["logger"] for line in written[:2]] == ["mine", "theirs"]
    assert (written[0]["count"], written[2]["count"]) == (3, 4)


def test_what_is_bound_to_the_context_is_on_every_line() -> None:
    stream = configured()
    structlog.contextvars.bind_contextvars(request_id="r1", user_id="ada")
    structlog.get_logger().warning("mine")
    logging.getLogger("theirs").warning("theirs")
    loguru.logger.warning("plain")
    assert [(line["request_id"], line["user_id"]) for line in lines(stream)] == [("r1", "ada")] * 3


def test_one_level_rules_all() -> None:
    stream = configured("WARNING")
    structlog.get_logger().info("mine")
    logging.getLogger("theirs").info("theirs")
    loguru.logger.info("plain")
    assert lines(stream) == []


def test_a_traceback_is_one_line_and_shows_no_values() -> None:
    stream = configured()

    def fail() -> None:
        password = "hush-hush"
        raise ValueError(len(password))

    for log in (structlog.get_logger().exception, logging.getLogger("x").exception):
        try:
            fail()
        except ValueError:
            log("failed")
    assert len(lines(stream)) == 2
    for line in lines(stream):
        assert line["level"] == "error"
        assert "ValueError: 9" in line["exception"]
        # The source line stands in a traceback; the value that it made does not.
        assert line["exception"].count("hush-hush") == 0


def test_what_is_not_a_string_is_still_a_line() -> None:
    stream = configured()
    structlog.get_logger().info("odd", text="\ud800 \n {braces} <red>", thing={1, 2}, error=ValueError("x"))
    (line,) = lines(stream)
    assert line["text"] == "\ud800 \n {braces} <red>"


def test_a_terminal_gets_readable_lines() -> None:
    stream = Terminal()
    configure_logging("INFO", "auto", stream)
    structlog.get_logger("mine").info("happened", count=3)
    assert "happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_default_stream_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json", sys.stderr)
    structlog.get_logger().info("happened")
    assert "happened" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["watchfiles.main", "asyncio", "httpx2", "svcs", "urllib3.connectionpool"])
def test_libraries_that_say_much_are_heard_when_something_is_wrong(name: str) -> None:
    stream = configured("DEBUG")
    logging.getLogger(name).info("looking around")
    logging.getLogger(name).warning("found something")
    assert [line["event"] for line in lines(stream)] == ["found something"]


@pytest.mark.parametrize(
    ("level", "heard"), [("WARNING", []), ("INFO", ["SELECT 1"]), ("DEBUG", ["SELECT 1", "Row (1,)"])]
)
def test_sqlalchemy_has_a_level_of_its_own(level: LogLevel, heard: list[str]) -> None:
    stream = configured("DEBUG")
    setup_sqlalchemy_logging(level)
    engine = logging.getLogger("sqlalchemy.engine.Engine")
    engine.info("SELECT 1")
    engine.debug("Row (1,)")
    assert [line["event"] for line in lines(stream)] == heard
    setup_sqlalchemy_logging()


async def test_statements_are_written_without_what_somebody_stores(postgres: PostgresAddress) -> None:
    stream = configured("DEBUG")
    setup_sqlalchemy_logging("DEBUG")
    engine = create_engine(postgres.url)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT length(CAST(:stored AS text))"), {"stored": "hush-hush"})
        with pytest.raises(ProgrammingError) as raised:
            await connection.execute(text("SELECT 1 FROM nowhere WHERE x = :stored"), {"stored": "hush-hush"})
    await engine.dispose()
    setup_sqlalchemy_logging()
    assert "FROM nowhere" in stream.getvalue()
    assert "hush-hush" not in stream.getvalue() + str(raised.value)
