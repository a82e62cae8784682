"""An ASGI app on a real uvicorn, in the event loop of the test that asks it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from api_server.exceptions import StartError

_STOP_TIMEOUT_S = 10

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def serve() -> Serve:
    """Give `serve(app, **options)`: an asynchronous context in which the app runs, and a client whose base is its URL.

    The app is any ASGI app; `options` are those of `uvicorn.Config`. An error of the app's lifespan is raised by the
    context. The context ends when the server has stopped.
    """
    # What uvicorn imports at its first use it imports here, where no event loop waits for it.
    uvicorn.Config(_no_app, log_config=None).load()
    return _served


@asynccontextmanager
async def _served(app: App, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:  # noqa: ANN401 - uvicorn's
    lifespan = _Lifespan(app)
    # The log is the test's own: uvicorn would give its loggers other handlers.
    defaults = {"lifespan": "on", "log_config": None, "timeout_graceful_shutdown": 3}
    # By name: asyncio lets small answers go at once only on a socket that says that it is TCP's.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(lifespan, **{**defaults, **options}))
        running = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
        try:
            await server.until_started(running)
            # Neither certificates nor proxies stand between a test and its loopback; loading the former takes a while.
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx2.AsyncClient(base_url=url, verify=False, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            await _ended(running)
    await running
    if lifespan.error is not None:
        raise lifespan.error


class _Server(uvicorn.Server):
    """A uvicorn that shares its process with a test: it takes no signals, and ends nothing but itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # `serve()` takes signals by this method alone. pytest's handlers stay, so that Ctrl-C ends the tests.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets=sockets)
        except SystemExit:
            # Raised in a task it would end pytest. Why it is raised, the app's lifespan knows.
            lifespan = self.config.app
            assert isinstance(lifespan, _Lifespan)
            raise lifespan.error or StartError("uvicorn does not start; its log says why.") from None
        self._is_up.set()

    async def until_started(self, running: "asyncio.Task[None]") -> None:
        """Return when the server answers; raise what kept it from that."""
        up = asyncio.create_task(self._is_up.wait())
        try:
            await asyncio.wait({up, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if running.done():
            await running


class _Lifespan:
    """An app, and the error that ended its lifespan, of which uvicorn only writes a log."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.error: Exception | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def notice(message: Message) -> None:
            if message["type"].endswith(".failed"):
                self.error = StartError(f"The lifespan of the app failed: {message.get('message', 'it says not why')}")
            await send(message)

        try:
            await self._app(scope, receive, notice)
        except Exception as error:
            self.error = error
            raise


async def _ended(running: "asyncio.Task[None]") -> None:
    """Wait for the server to stop; cancel one that does not, and say so."""
    done, _ = await asyncio.wait({running}, timeout=_STOP_TIMEOUT_S)
    if not done:
        running.cancel()
        await asyncio.wait({running})
        raise TimeoutError(f"uvicorn did not stop within {_STOP_TIMEOUT_S} s.")


async def _no_app(scope: Message, receive: Receive, send: Send) -> None:
    """Be an app that is never asked."""
