"""Clients that leave before their answer: what was begun for them ends, where it is safe to end it."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive


async def until_left(receive: Receive) -> None:
    """Return when the client has left; whatever else it sends is dropped, so that its body has to be read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class UnlessClientLeaves:
    """A block of work that is cancelled when the client of an HTTP request leaves: `async with` it.

    The block then ends with ClientDisconnect, which is no error: `LogContextMiddleware` makes it the one line of the
    request, with status 499. For work that may stop anywhere, as a computation or a read, and not for what would leave
    half of a change behind. Where only the work itself shows which it is, pass `watch=False` and call `watch` then.
    A request has one such block at a time.
    """

    def __init__(self, request: Request, *, watch: bool = True) -> None:
        self._receive = request.receive
        self._watches_at_once = watch
        self._work: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._watcher: asyncio.Task[None] | None = None
        self._has_left = False

    def watch(self) -> None:
        """Begin to wait for the client to leave."""
        self._watcher = asyncio.create_task(self._cancel_when_left(), name="a client's leaving")

    async def __aenter__(self) -> Self:
        self._work = asyncio.current_task()
        assert self._work is not None
        self._cancelling = self._work.cancelling()
        if self._watches_at_once:
            self.watch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            # Not awaited by itself, which could not be told from being cancelled oneself meanwhile.
            await asyncio.wait({self._watcher})
        if not self._has_left:
            return
        assert self._work is not None
        # As asyncio.timeout has it: if others cancelled the work too, it is them who must be heard.
        is_only_reason = self._work.uncancel() <= self._cancelling
        if is_only_reason and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientDisconnect from error

    async def _cancel_when_left(self) -> None:
        await until_left(self._receive)
        assert self._work is not None
        self._has_left = True
        self._work.cancel()
