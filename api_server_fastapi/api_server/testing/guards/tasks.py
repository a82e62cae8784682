"""Whether tasks still run when the event loop of a test is closed."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import pytest

from api_server.testing.guards.guard import Guard, replace
from api_server.testing.guards.places import named_task, place_of

_T = TypeVar("_T")


class TasksGuard(Guard):
    """Looks at what still runs on a loop when its `asyncio.Runner` is closed, in the thread that runs the tests."""

    name = "tasks"

    def __init__(self) -> None:
        # Of each runner the tests that it ran something for; None among them is one that is not guarded.
        self._tests: WeakKeyDictionary[asyncio.Runner, dict[str | None, None]] = WeakKeyDictionary()
        self._test: str | None = None
        self._thread = threading.get_ident()
        self._found: list[str] = []
        self._put_back: list[Callable[[], None]] = []

    def start(self) -> None:
        run, close = asyncio.Runner.run, asyncio.Runner.close
        self._thread = threading.get_ident()

        @wraps(run)
        def noting_run(
            runner: asyncio.Runner, coro: Coroutine[Any, Any, _T], *, context: contextvars.Context | None = None
        ) -> _T:
            if threading.get_ident() == self._thread:
                self._tests.setdefault(runner, {})[self._test] = None
            return run(runner, coro, context=context)

        @wraps(close)
        def noting_close(runner: asyncio.Runner) -> None:
            # Only one that has run something has a loop with tasks in it; and asking for the loop would make one.
            if (tests := self._tests.pop(runner, None)) is not None and None not in tests:
                self._look(runner.get_loop(), [test for test in tests if test])
            close(runner)

        self._put_back = [replace(asyncio.Runner, "run", noting_run), replace(asyncio.Runner, "close", noting_close)]

    def stop(self) -> None:
        for put_back in self._put_back:
            put_back()

    def enter(self, item: pytest.Item, *, is_guarded: bool) -> None:
        self._test = item.nodeid if is_guarded else None

    def happened(self) -> Iterable[str]:
        found, self._found = self._found, []
        return found

    def _look(self, loop: asyncio.AbstractEventLoop, tests: list[str]) -> None:
        left = [task for task in asyncio.all_tasks(loop) if not task.done()] if not loop.is_closed() else []
        if not left:
            return
        whose = "" if len(tests) == 1 else f" by one of {', '.join(tests)}"
        lines = sorted(f"  {named_task(task)}, is suspended {_suspended(task)}" for task in left)
        self._found.append("\n".join([f"Tasks were left running when the event loop was closed{whose}:", *lines]))


def _suspended(task: "asyncio.Task[Any]") -> str:
    stack = task.get_stack()
    return f"at {place_of(stack[-1])}" if stack else "before its first line"
