"""One check: whatever it does, it has one answer, in time."""

import asyncio
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from api_server.readiness_pipeline import CheckStatus, ReadinessCheck, ReadinessCheckResult
from scripted_checks import GatedCheck, ScriptedCheck, bad, good, odd


class AsyncCheck(ReadinessCheck):
    async def _execute(self) -> ReadinessCheckResult:
        await asyncio.sleep(0)
        return self.success("awaited", {"answer": 42})


class Stubborn(ReadinessCheck):
    """Does not let itself be cancelled until the test is over."""

    def __init__(self) -> None:
        super().__init__("stubborn", timeout=0.05)
        self.is_over = asyncio.Event()

    async def _execute(self) -> ReadinessCheckResult:
        while not self.is_over.is_set():
            try:
                await self.is_over.wait()
            except asyncio.CancelledError:
                continue
        return self.success("at last")


async def test_a_check_may_be_a_coroutine_function() -> None:
    result = await AsyncCheck("async").run()
    assert (result.status, result.message, result.details) == (CheckStatus.SUCCESS, "awaited", {"answer": 42})


async def test_a_result_has_its_times() -> None:
    before = datetime.now(UTC)
    result = await ScriptedCheck(good).run()
    assert before <= result.checked_at <= datetime.now(UTC)
    assert 0 < result.duration_ms < 1000


async def test_a_plain_check_does_not_hold_the_loop() -> None:
    threads: list[threading.Thread] = []

    def look(check: ReadinessCheck) -> ReadinessCheckResult:
        threads.append(threading.current_thread())
        return check.success("fine")

    await ScriptedCheck(look, "looking").run()
    assert threads[0] is not threading.main_thread()
    assert threads[0].name == "readiness check looking"
    assert threads[0].daemon


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a fact for operators"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration("x"),
        BaseExceptionGroup("several", [SystemExit(1)]),
        BaseException("of a kind of its own"),
    ],
)
async def test_a_check_that_raises_has_failed(error: BaseException) -> None:
    def raises(check: ReadinessCheck) -> ReadinessCheckResult:
        raise error

    class Raises(ReadinessCheck):
        async def _execute(self) -> ReadinessCheckResult:
            raise error

    for check in (ScriptedCheck(raises), Raises("async")):
        result = await check.run()
        assert result.status is CheckStatus.FAILED
    result = await ScriptedCheck(lambda check: 1 / 0).run()
    assert (result.message, result.details) == ("ZeroDivisionError", {"error": "division by zero"})


@pytest.mark.parametrize("answer", [None, True, "fine"])
async def test_what_is_no_result_is_a_failure(answer: Any) -> None:
    result = await ScriptedCheck(lambda check: answer).run()
    assert result.status is CheckStatus.FAILED
    assert result.message == f"the check answered {type(answer).__name__}, which is no ReadinessCheckResult"


async def test_a_check_that_cancels_itself_has_failed() -> None:
    class Cancels(ReadinessCheck):
        async def _execute(self) -> ReadinessCheckResult:
            raise asyncio.CancelledError

    assert (await Cancels("cancels").run()).message == "was cancelled"


async def test_a_check_that_hangs_has_failed_when_its_time_is_up() -> None:
    check = GatedCheck(timeout=0.05)
    result = await check.run()
    assert (result.status, result.message) == (CheckStatus.FAILED, "no answer within 0.05 s")
    assert 50 <= result.duration_ms < 1000
    check.gate.set()
    assert (await check.run()).status is CheckStatus.SUCCESS


async def test_a_check_that_does_not_let_itself_be_cancelled_holds_nobody() -> None:
    check = Stubborn()
    assert (await check.run()).message == "no answer within 0.05 s"
    assert (await check.run()).message == "the previous run has not ended"
    check.is_over.set()
    assert check._task is not None
    await check._task


def test_nor_does_it_keep_the_loop_from_closing() -> None:
    """Whoever closes a loop waits for every task that it knows."""
    code = """
import asyncio
from api_server.readiness_pipeline import ReadinessCheck

class Forever(ReadinessCheck):
    async def _execute(self):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

print(asyncio.run(Forever("forever", timeout=0.05).run()).message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no answer within 0.05 s\n", "")


async def test_a_check_that_holds_the_loop_is_late_and_has_failed() -> None:
    class Holds(ReadinessCheck):
        async def _execute(self) -> ReadinessCheckResult:
            time.sleep(0.09)  # noqa: ASYNC251 - that is what it does wrong
            return self.success("fine")

    assert (await Holds("holds", timeout=0.01).run()).message == "no answer within 0.01 s"


async def test_a_thread_that_hangs_is_not_joined_by_another() -> None:
    released = threading.Event()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    def hangs(check: ReadinessCheck) -> ReadinessCheckResult:
        released.wait()
        return check.success("fine")

    check = ScriptedCheck(hangs, timeout=0.05)
    messages = [(await check.run()).message for _ in range(3)]
    assert messages == ["no answer within 0.05 s"] + ["the previous run has not ended"] * 2
    assert check.runs == 1
    released.set()
    async with asyncio.timeout(5):
        while check._is_running:
            await asyncio.sleep(0.001)
    assert (await check.run()).status is CheckStatus.SUCCESS
    # Its answer came too late, and nobody minds.
    assert complaints == []


def test_a_thread_that_hangs_does_not_keep_the_loop_from_closing() -> None:
    released = threading.Event()

    def hangs(check: ReadinessCheck) -> ReadinessCheckResult:
        released.wait()
        return check.success("fine")

    check = ScriptedCheck(hangs, "that outlives its loop", timeout=0.05)
    began = time.monotonic()
    asyncio.run(check.run())
    assert time.monotonic() - began < 2
    assert check._is_running
    (thread,) = [thread for thread in threading.enumerate() if thread.name.endswith(check.name)]
    released.set()
    thread.join(5)
    assert not check._is_running


class TestRunOnce:
    async def test_a_success_is_kept(self) -> None:
        check = ScriptedCheck(good, run_once=True)
        first = await check.run()
        assert await check.run() is first
        assert check.runs == 1

    @pytest.mark.parametrize("answer", [bad, odd])
    async def test_nothing_else_is(self, answer: Any) -> None:
        check = ScriptedCheck(answer, run_once=True)
        await check.run()
        check.answer = good
        assert (await check.run()).status is CheckStatus.SUCCESS
        assert check.runs == 2

    async def test_a_check_can_be_forced_to_run_again(self) -> None:
        check = ScriptedCheck(good, run_once=True)
        await check.run()
        check.answer = bad
        assert (await check.run(force_rerun=True)).status is CheckStatus.FAILED
        assert (await check.run()).status is CheckStatus.FAILED

    async def test_an_ordinary_check_runs_each_time(self) -> None:
        check = ScriptedCheck(good)
        await check.run()
        await check.run()
        assert check.runs == 2


async def test_the_snippet_of_a_check_of_one_s_own_works_as_it_stands() -> None:
    """`everything_ok` is the application's."""
    for everything_ok, status in ((True, "success"), (False, "failed")):
        namespace = {"everything_ok": everything_ok}
        exec(SNIPPET, namespace)
        check: ReadinessCheck = namespace["MyCheck"]()  # type: ignore[operator]
        result = await check.run()
        assert (result.name, result.status, len(result.details)) == ("my_check", status, 1)


SNIPPET = """
from api_server.readiness_pipeline import ReadinessCheck, ReadinessCheckResult

class MyCheck(ReadinessCheck):
    def __init__(self):
        super().__init__("my_check", is_critical=False, run_once=False)

    def _execute(self) -> ReadinessCheckResult:
        if everything_ok:
            return self.success("All good", {"detail": "value"})
        return self.failed("Problem", {"error": "reason"})
"""


def test_the_mechanism_loads_the_standard_library_only() -> None:
    code = "import sys; at_first = set(sys.modules); import api_server.readiness_pipeline"
    show = "print(*set(sys.modules) - at_first)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {show}"], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"api_server"}
