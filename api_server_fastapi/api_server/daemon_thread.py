"""A thread that an event loop waits for, and that nobody has to wait for."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class DaemonThread(Generic[T]):
    """Calls a function in a thread of its own.

    Not one of the loop's executor: a function that hangs would keep one of its few threads for ever, and the process
    from ending.
    """

    def __init__(self, function: Callable[[], T], *, name: str) -> None:
        self._function = contextvars.copy_context().run, function
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[T] = self._loop.create_future()
        self.is_running = True
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def outcome(self) -> T:
        """Return what the function returns, or raise what it raises."""
        return await self._outcome

    def _run(self) -> None:
        run, function = self._function
        try:
            settle, value = self._outcome.set_result, run(function)
        # Raised again by whoever waits for the outcome.
        except BaseException as error:  # noqa: BLE001
            settle, value = self._outcome.set_exception, self._transportable(error)  # type: ignore[assignment]
        self.is_running = False
        # The loop may be closed by now.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, settle, value)

    def _settle(self, settle: Callable[[T], None], value: T) -> None:
        # Whoever waited may have given up.
        if not self._outcome.done():
            settle(value)

    @staticmethod
    def _transportable(error: BaseException) -> BaseException:
        """Return the error itself, unless a future refuses it, or it would end what waits and not what failed."""
        refused = GeneratorExit | KeyboardInterrupt | StopIteration
        return RuntimeError(repr(error)) if isinstance(error, refused) else error


def abandon(task: "asyncio.Task[Any]") -> None:
    """Let nobody wait for a task that may not let itself be cancelled.

    Whoever closes an event loop waits for every task that it knows, for as long as they take.
    """
    asyncio._unregister_task(task)  # noqa: SLF001 - for whoever extends asyncio
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - nor complain of it
