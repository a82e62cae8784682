"""The pytest plugin as those use it who install it: in projects of their own, each a session of pytest's."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import httpx2
import pytest
from api_server.exceptions import StartError
from api_server.local.postgres import PostgresAddress
from api_server.testing import Serve, clean_environment
from fastapi import FastAPI

# Each test runs pytest in a process of its own.
pytestmark = pytest.mark.slow

SETTINGS = """
[pytest]
addopts = -p pytest_asyncio.plugin {options}
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
filterwarnings = error
{more}
"""
IMPORTS = """
import asyncio, os, socket, subprocess, sys, threading, time
import pytest, pytest_asyncio
kept = []  # what is left behind stays reachable from here

def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))

async def forever():
    await asyncio.sleep(600)
"""


@dataclass(frozen=True)
class Session:
    """A session of pytest's that has ended: what it said of each of its tests."""

    output: str
    status: int

    def __getitem__(self, test: str) -> str:
        """Return all that was said of a test's failure, whichever phase it was in."""
        parts = re.split(r"^_{2,} (?:ERROR at \w+ of )?([\w\[\].-]+) _{2,}$", self.output, flags=re.MULTILINE)
        return "".join(text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name == test)

    @property
    def failed(self) -> set[str]:
        return set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", self.output, re.MULTILINE))

    @property
    def passed(self) -> int:
        return sum(map(int, re.findall(r"(\d+) passed", self.output)))


RunPytest = Callable[..., Session]


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    """Give a function that runs the tests of a module which uses the plugin."""

    def run(tests: str, mode: str = "auto", options: str = "", more: str = "", **environment: str) -> Session:
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["api_server.testing"]\n')
        (tmp_path / "pytest.ini").write_text(SETTINGS.format(mode=mode, options=options, more=more))
        (tmp_path / "test_it.py").write_text(IMPORTS + dedent(tests))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "test_it.py", "--basetemp", tmp_path / "temp"],
            cwd=tmp_path,
            env=clean_environment(COLUMNS="150", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Session(done.stdout + done.stderr, done.returncode)

    return run


@pytest.fixture
def server(postgres: PostgresAddress) -> dict[str, str]:
    """The variable by which an inner session's fixture `postgres` finds the server of this one."""
    return {
        "TESTED_POSTGRES": f"{postgres.host} {postgres.port} {postgres.user} {postgres.database} {postgres.password}"
    }


ON_THE_SAME_SERVER = """
from api_server.local.postgres import PostgresAddress

@pytest.fixture(scope="session")
def postgres():
    host, port, *others = os.environ["TESTED_POSTGRES"].split()
    return PostgresAddress(host, int(port), *others)
"""


class TestBlocking:
    def test_a_loop_that_is_held_up_fails_the_test_and_names_where(self, run_pytest: RunPytest) -> None:
        session = run_pytest("""
            async def test_sleeps():
                await asyncio.sleep(0)
                time.sleep(0.2)

            async def test_computes():
                compute(0.2)

            @pytest.fixture
            async def slow():
                yield
                time.sleep(0.2)

            async def test_with_a_slow_fixture(slow):
                pass

            async def test_of_a_callback():
                asyncio.get_running_loop().call_soon(compute, 0.2)
                await asyncio.sleep(0.01)

            def test_in_a_loop_of_its_own():
                asyncio.run(test_sleeps())

            async def test_that_fails_anyway():
                time.sleep(0.2)
                assert "this" == "that"

            async def test_that_computes_little_at_a_time():
                for _ in range(20):
                    compute(0.02)
                    await asyncio.sleep(0)

            async def test_that_waits_elsewhere():
                await asyncio.to_thread(time.sleep, 0.2)
                await asyncio.sleep(0.2)

            def test_without_a_loop():
                time.sleep(0.2)

            @pytest.mark.unguarded("blocking", reason="it is what the test is about")
            async def test_that_may():
                time.sleep(0.2)
        """)
        culprits = {
            "test_sleeps": r"for [12]\d\d ms \(\d+ of them computing; 100 are allowed\) by test_sleeps "
            r"\(test_it.py:\d+\):\n  test_it.py:\d+ in test_sleeps: time.sleep\(0.2\)",
            "test_computes": r"ms \((19|20)\d of them computing; .*by test_computes.*\n(  .*\n)?  .* in compute: ",
            "test_with_a_slow_fixture": r"by the fixture slow:\n  test_it.py:\d+ in slow: time.sleep\(0.2\)",
            "test_of_a_callback": r"by compute \(test_it.py:\d+\)",
            "test_in_a_loop_of_its_own": r"by test_sleeps \(test_it.py:\d+\)",
            "test_that_fails_anyway": r"'this' == 'that'[^§]*Captured by guards call -+\nThe event loop was blocked",
        }
        assert session.failed == culprits.keys(), session.output
        for test, says in culprits.items():
            assert re.search(says, session[test]), session[test]
        assert "ERROR at teardown of test_with_a_slow_fixture" in session.output

    @pytest.mark.slow
    def test_a_busy_machine_lets_no_test_fail(self, run_pytest: RunPytest) -> None:
        session = run_pytest("""
            @pytest.fixture(scope="module", autouse=True)
            def _busy_machine():
                busy = "import time; end = time.monotonic() + 20\\nwhile time.monotonic() < end: pass"
                processes = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(4)]
                yield
                for process in processes:
                    process.kill()
                    process.wait()

            async def test_of_many_short_callbacks():
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    compute(0.002)
                    await asyncio.sleep(0.001)

            async def test_of_callbacks_that_take_half_of_what_they_may():
                for _ in range(15):
                    compute(0.05)
                    await asyncio.sleep(0)
        """)
        assert session.passed == 2, session.output

    @pytest.mark.slow
    def test_the_limit_can_be_chosen(self, run_pytest: RunPytest) -> None:
        session = run_pytest(
            """
            async def test_sleeps():
                time.sleep(0.2)

            async def test_sleeps_longer():
                time.sleep(0.6)
            """,
            more="api_server_blocking_ms = 400",
        )
        assert session.failed == {"test_sleeps_longer"}
        assert "400 are allowed" in session["test_sleeps_longer"]


class TestWhatIsLeftBehind:
    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_tasks_and_descriptors_are_named(self, run_pytest: RunPytest, mode: str) -> None:
        session = run_pytest(
            """
            pytestmark = []
            only_async = pytest.mark.asyncio

            @only_async
            async def test_leaves_a_task():
                kept.append(asyncio.create_task(forever(), name="straggler"))
                await asyncio.sleep(0)

            @pytest_asyncio.fixture
            async def ticking():
                task = asyncio.create_task(forever())
                yield
                task.cancel()

            @only_async
            async def test_ends_its_tasks(ticking):
                await asyncio.create_task(asyncio.sleep(0))

            def test_runs_a_loop_that_leaves_a_task():
                async def main():
                    kept.append(asyncio.create_task(forever()))
                asyncio.run(main())

            def test_leaves_a_file(tmp_path):
                kept.append(open(tmp_path / "left", "w"))

            def test_leaves_a_connection():
                listener = socket.create_server(("127.0.0.1", 0))
                kept.extend([listener, socket.create_connection(listener.getsockname())])

            @only_async
            async def test_closes_its_connection(tmp_path):
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    reader, writer = await asyncio.open_connection(*listener.getsockname())
                    writer.close()
                    await writer.wait_closed()
                with open(tmp_path / "closed", "w"):
                    pass

            def test_lets_garbage_close_it():
                class Both: pass
                one, other = Both(), Both()
                one.other, other.other = other, one
                one.number = os.open(os.devnull, os.O_RDONLY)

            def test_makes_what_multiprocessing_keeps():
                import multiprocessing
                process = multiprocessing.get_context("spawn").Process(target=int)
                process.start()
                process.join()
                process.close()
                multiprocessing.Value("i")

            @pytest.fixture(scope="module")
            def shared(tmp_path_factory):
                with open(tmp_path_factory.mktemp("shared") / "file", "w") as file:
                    yield file

            def test_asks_for_a_fixture_that_outlives_it(request):
                request.getfixturevalue("shared")

            class Client:
                file = None

            @pytest.fixture(scope="module")
            def client():
                client = Client()
                yield client
                client.file.close()

            def test_has_a_client_that_outlives_it_open_something(client, tmp_path):
                client.file = open(tmp_path / "of_the_client", "w")

            @pytest.mark.unguarded("descriptors", reason="it is what the test is about")
            def test_that_may(tmp_path):
                kept.append(open(tmp_path / "allowed", "w"))

            def test_fails_anyway(tmp_path):
                kept.append(open(tmp_path / "left", "w"))
                assert "this" == "that"
            """,
            mode=mode,
            options="--import-mode=importlib",
        )
        culprits = {
            "test_leaves_a_task": r"Tasks were left running when the event loop was closed:\n"
            r"  task 'straggler', forever \(test_it.py:\d+\), is suspended at test_it.py:\d+ in forever: await asyncio",
            "test_runs_a_loop_that_leaves_a_task": r"Tasks were left running .*\n  task 'Task-\d+', forever \(test_it",
            "test_leaves_a_file": r"Descriptors were left open:\n  \d+: /.*/left",
            "test_leaves_a_connection": r"\d+: socket 127.0.0.1:\d+\n  \d+: socket 127.0.0.1:\d+ -> 127.0.0.1:\d+",
            "test_fails_anyway": r"'this' == 'that'[^§]*Captured by guards teardown -+\nDescriptors were left open",
        }
        assert session.failed == culprits.keys(), session.output
        for test, says in culprits.items():
            assert re.search(says, session[test]), session[test]

    @pytest.mark.slow
    def test_of_a_loop_that_tests_share_the_tests_are_named(self, run_pytest: RunPytest) -> None:
        session = run_pytest("""
            pytestmark = pytest.mark.asyncio(loop_scope="module")

            async def test_leaves_a_task():
                kept.append(asyncio.create_task(forever()))

            async def test_that_comes_last():
                await asyncio.sleep(0)
        """)
        says = r"by one of test_it.py::test_leaves_a_task, test_it.py::test_that_comes_last:\n  task '.*', forever"
        assert re.search(says, session["test_that_comes_last"]), session.output
        assert session.passed == 2

    def test_locks_and_slots_of_pools_are_named(self, run_pytest: RunPytest, server: dict[str, str]) -> None:
        session = run_pytest(
            ON_THE_SAME_SERVER
            + dedent("""
            import asyncpg, psycopg, sqlalchemy
            from api_server.database.advisory_lock import AdvisoryLock, advisory_lock, lock_key
            from sqlalchemy.ext.asyncio import create_async_engine

            slots_only = pytest.mark.unguarded("descriptors", reason="a connection that is not given back is open too")

            @slots_only
            def test_leaves_locks(database):
                connection = psycopg.connect(database.url, autocommit=True, application_name="holder")
                kept.append(connection)
                connection.execute("SELECT pg_advisory_lock(1, -2)")
                connection.execute("SELECT pg_advisory_lock(%s)", [lock_key(AdvisoryLock.MIGRATION)])

            def test_gives_its_lock_up(database):
                with advisory_lock("mine", database.url):
                    pass

            def drivers_url(database):
                return database.url.replace("postgresql://", "postgresql+psycopg://")

            @slots_only
            def test_leaves_a_slot(database):
                kept.append(sqlalchemy.create_engine(drivers_url(database)).connect())

            @slots_only
            async def test_leaves_a_slot_in_a_loop(database):
                connection = create_async_engine(drivers_url(database)).connect()
                kept.append(connection)
                await connection.start()

            async def test_gives_its_slot_back(database):
                engine = sqlalchemy.create_engine(drivers_url(database))
                with engine.connect() as connection:
                    connection.execute(sqlalchemy.text("SELECT 1"))
                engine.dispose()
                engine = create_async_engine(drivers_url(database))
                async with engine.connect() as connection:
                    await connection.execute(sqlalchemy.text("SELECT 1"))
                await engine.dispose()

            async def test_leaves_a_slot_of_asyncpgs(database):
                pool = await asyncpg.create_pool(database.url, min_size=1, max_size=1)
                kept.append(await pool.acquire())
                pool.terminate()

            async def test_gives_its_slot_of_asyncpgs_back(database):
                async with asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool:
                    async with pool.acquire() as connection:
                        await connection.execute("SELECT 1")
                    assert await pool.fetchval("SELECT 1") == 1
            """),
            **server,
        )
        taken = "Connections were taken from a pool and not given back:\n  a connection of"
        culprits = {
            "test_leaves_locks": r"Advisory locks were left held:\n"
            r"  api_server.migration \(key -?\d+\) in database test_\w+, by the server's process \d+ \(holder\), whose "
            r"last query is: SELECT pg_advisory_lock\(\$1\)\n  key \(1, -2\) in database test_",
            "test_leaves_a_slot": rf"{taken} SQLAlchemy's pool, taken at test_it.py:\d+ in test_leaves_a_slot: kept",
            "test_leaves_a_slot_in_a_loop": rf"{taken} SQLAlchemy's pool, taken at test_it.py:\d+ in test_leaves",
            "test_leaves_a_slot_of_asyncpgs": rf"{taken} asyncpg's pool, taken at test_it.py:\d+ in test_leaves_a_slot",
        }
        assert session.failed == culprits.keys(), session.output
        for test, says in culprits.items():
            assert re.search(says, session[test]), session[test]

    def test_nothing_is_loaded_that_the_tests_do_not_use(self, run_pytest: RunPytest) -> None:
        session = run_pytest("""
            def test_is_the_first():
                libraries = ("asyncpg", "fastapi", "loguru", "sqlalchemy", "strawberry", "svcs")
                assert [name for name in libraries if name in sys.modules] == []
        """)
        assert session.passed == 1, session.output


class TestSecret:
    def test_where_it_is_seen_is_named_and_it_is_not_shown(self, run_pytest: RunPytest, tmp_path: Path) -> None:
        session = run_pytest(
            """
            import logging, pathlib

            @pytest.fixture(autouse=True, scope="session")
            def _tell(marker_secret):
                pathlib.Path("secret").write_text(marker_secret)

            def test_prints_it(marker_secret):
                print("my password is", marker_secret)

            @pytest.fixture
            def telling(marker_secret):
                yield
                sys.stderr.write(f"{marker_secret}?")

            def test_ends_with_it(telling):
                pass

            def test_logs_it(marker_secret):
                logging.getLogger("mine").warning("as %s", marker_secret)

            def test_starts_who_prints_it(marker_secret, start_service):
                command = [sys.executable, "-c", "import os; print('started with', os.environ['PASSWORD'])"]
                start_service(command, PASSWORD=marker_secret).wait()

            def test_compares_it(marker_secret):
                assert marker_secret == "another"

            def test_keeps_it(marker_secret, start_service):
                start_service([sys.executable, "-c", "print('started')"], PASSWORD=marker_secret).wait()
                print(len(marker_secret))
            """
        )
        culprits = {
            "test_prints_it": r"seen in captured stdout call:\n  my password is \*\*\*\n",
            "test_ends_with_it": r"seen in captured stderr teardown:\n  \*\*\*\?\n",
            "test_logs_it": r"seen in captured log call:\n  WARNING .* as \*\*\*\n",
            "test_starts_who_prints_it": r"seen in the output of the process .*:\n  started with \*\*\*\n",
            "test_compares_it": r"AssertionError: assert '\*\*\*' == 'another'",
        }
        assert session.failed == culprits.keys(), session.output
        for test, says in culprits.items():
            assert re.search(says, session[test]), session[test]
        assert (tmp_path / "secret").read_text() not in session.output


class TestChoosingGuards:
    def test_marks_that_say_too_little_are_refused(self, run_pytest: RunPytest) -> None:
        session = run_pytest("""
            @pytest.mark.unguarded("blocking")
            def test_without_a_reason():
                pass

            @pytest.mark.unguarded(reason="so")
            def test_without_a_guard():
                pass

            @pytest.mark.unguarded("sleeping", reason="so")
            def test_of_a_guard_that_is_none():
                pass
        """)
        assert session.status == pytest.ExitCode.USAGE_ERROR
        example = '@pytest.mark.unguarded("blocking", reason="why it must be")'
        assert f"test_it.py::test_without_a_reason: it is {example}" in session.output
        assert f"test_it.py::test_without_a_guard: it is {example}" in session.output
        assert "test_it.py::test_of_a_guard_that_is_none: there is no guard sleeping, but blocking, " in session.output

    def test_a_project_chooses_its_guards(self, run_pytest: RunPytest) -> None:
        tests = """
            async def test_sleeps(tmp_path):
                kept.append(open(tmp_path / "left", "w"))
                time.sleep(0.2)
        """
        session = run_pytest(tests, more="api_server_guards = descriptors locks")
        assert "left open" in session["test_sleeps"]
        assert "blocked" not in session.output
        assert run_pytest(tests, more="api_server_guards = nothing").status == pytest.ExitCode.USAGE_ERROR


class TestServing:
    async def test_a_plain_app_answers_over_a_real_socket(self, serve: Serve) -> None:
        app = FastAPI()

        @app.get("/hello/{name}")
        async def hello(name: str) -> dict[str, str]:
            return {"hello": name}

        async with serve(app, headers=[("X-Served-By", "uvicorn")]) as client:
            answer = await client.get("/hello/you")
            assert answer.json() == {"hello": "you"}
            assert answer.headers["X-Served-By"] == "uvicorn"
            assert client.base_url.host == "127.0.0.1"
            url = client.base_url
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(str(url))

    async def test_the_lifespan_lasts_as_long_as_the_context(self, serve: Serve) -> None:
        happened: list[str] = []

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            happened.append("begun")
            yield
            happened.append("ended")

        async with serve(FastAPI(lifespan=lifespan)):
            assert happened == ["begun"]
        assert happened == ["begun", "ended"]

    @pytest.mark.parametrize("is_up", [False, True])
    async def test_an_error_of_the_lifespan_is_raised(self, serve: Serve, is_up: bool) -> None:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            if is_up:
                yield
            raise LookupError("no database")

        with pytest.raises(LookupError, match="no database"):
            async with serve(FastAPI(lifespan=lifespan)):
                assert is_up

    async def test_an_app_that_says_that_it_cannot_start_is_an_error(self, serve: Serve) -> None:
        async def app(scope: object, receive: Callable[[], object], send: Callable[..., AsyncIterator[None]]) -> None:
            await send({"type": "lifespan.startup.failed", "message": "no database"})  # type: ignore[misc]

        with pytest.raises(StartError, match="no database"):
            async with serve(app):
                pass

    async def test_pytest_keeps_its_signals(self, serve: Serve) -> None:
        import signal

        before = signal.getsignal(signal.SIGINT)
        async with serve(FastAPI()):
            assert signal.getsignal(signal.SIGINT) is before


class TestDatabases:
    def test_a_database_is_the_tests_own_and_gone_with_it(
        self, run_pytest: RunPytest, server: dict[str, str], postgres: PostgresAddress
    ) -> None:
        session = run_pytest(
            ON_THE_SAME_SERVER
            + dedent("""
            import psycopg

            @pytest.mark.parametrize("number", [1, 2])
            @pytest.mark.unguarded("descriptors", reason="who is still connected does not keep a database")
            def test_makes_a_table(database, number):
                connection = psycopg.connect(database.url, autocommit=True)
                connection.execute("CREATE TABLE made (id integer)")
                kept.append((connection, database))

            def test_the_others_are_gone(database):
                with psycopg.connect(database.url) as connection:
                    names = {name for name, in connection.execute("SELECT datname FROM pg_database")}
                assert database.database in names
                assert not names & {other.database for _, other in kept}
            """),
            options="-W ignore::ResourceWarning",
            **server,
        )
        assert session.passed == 3, session.output

    @pytest.mark.slow
    def test_a_server_is_there_in_half_a_second(self, run_pytest: RunPytest) -> None:
        tests = """
            import psycopg

            began = time.monotonic()

            def test_asks(postgres):
                with psycopg.connect(postgres.url) as connection:
                    connection.execute("SELECT 1")
                print(f"asked after {time.monotonic() - began} s")
        """
        run_pytest(tests)
        session = run_pytest(tests, options="-rP")
        found = re.search(r"asked after (.*) s", session.output)
        assert found, session.output
        assert float(found[1]) < 1.5  # a third of that where the machine has nothing else to do
