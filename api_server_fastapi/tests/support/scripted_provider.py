"""An OpenID provider that answers as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from api_server.testing import Serve

JWKS, DISCOVERY = "/jwks", "/.well-known/openid-configuration"


@dataclass
class ScriptedProvider:
    """An ASGI app that answers what `answers` has for a path, when `may_answer` is set; `asked` are the paths.

    While it `drips`, an answer does not end.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    drips: bool = False
    url: str = ""

    def become(self, jwks: object) -> None:
        """Be a good provider again, with this set of keys."""
        self.answers[JWKS] = jwks
        self.status, self.headers = 200, {}
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self.asked.append(scope["path"])
        await self.may_answer.wait()
        answer = self.answers.get(scope["path"], b"")
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        while self.drips:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running_provider(serve: Serve, **answers: Any) -> AsyncIterator[ScriptedProvider]:
    """Run a provider whose set of keys is `jwks`, and which tells where that is."""
    provider = ScriptedProvider({JWKS: answers.get("jwks", b"")})
    provider.may_answer.set()
    async with serve(provider) as client:
        provider.url = str(client.base_url).rstrip("/")
        provider.answers[DISCOVERY] = {"issuer": provider.url, "jwks_uri": provider.url + JWKS}
        try:
            yield provider
        finally:
            provider.may_answer.set()
