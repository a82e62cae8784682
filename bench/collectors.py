"""Collectors of telemetry to measure against: one that takes spans, and one that never answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request


def sink() -> FastAPI:
    """Make an app that takes whatever it is sent, and keeps nothing."""
    app = FastAPI()

    @app.get("/")
    async def alive() -> None:
        """Answer that it runs."""

    @app.post("/v1/traces")
    async def traces(request: Request) -> None:
        await request.body()

    return app


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of one that lets everybody connect, and answers nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
