"""An application whose numbers are looked at: it answers, blocks its event loop, or hangs, as it is asked."""

import os
import time
from typing import Any

from api_server.application import Application
from fastapi import APIRouter, FastAPI, Response
from starlette.responses import StreamingResponse

router = APIRouter()
reports = FastAPI()


@router.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    return {"number": number, "pid": os.getpid()}


@router.get("/failing")
async def failing() -> None:
    raise RuntimeError("no orders today")


@router.get("/ticks")
async def ticks() -> Response:
    async def none() -> Any:
        yield b"data: 1\n\n"

    return StreamingResponse(none(), media_type="text/event-stream")


@router.get("/nap")
async def nap(seconds: float, secret: str = "") -> dict[str, float]:
    time.sleep(seconds)  # noqa: ASYNC251 - which is what is looked for
    return {"seconds": seconds}


@router.get("/spin")
async def spin(seconds: float) -> dict[str, float]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return {"seconds": seconds}


@reports.get("/daily/{day}")
async def daily(day: str) -> dict[str, str]:
    return {"day": day}


# Twice included: no route knows the whole of its path.
shop = APIRouter()
shop.include_router(router, prefix="/shop")

APP = Application(name="shop", version="1.2", uses_database=lambda: False, routers=lambda: (shop,))
