"""An application over HTTP that answers as a test says, and remembers what it was asked."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.gateway.serving import DEADLINE_SECONDS, served, until

Body = dict[str, Any]


class Asked(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: Body


class AnApplication:
    """Answers by path: a body, a whole response, or what a function of the request returns."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Body | Response | Callable[[Asked], Body]] = {}
        self.goes_on = asyncio.Event()
        """While it is not set, nothing is answered."""
        self.goes_on.set()
        self.under_way = 0
        self.most_under_way = 0
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def bodies(self, path: str) -> list[Body]:
        return [each.body for each in self.asked if each.path == path]

    async def until_asked(self, count: int) -> None:
        await until(lambda: len(self.asked) >= count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        asked = Asked(request.url.path, dict(request.headers), json.loads(await request.body()))
        self.asked.append(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.goes_on.wait()
        finally:
            self.under_way -= 1
        answer = self.answers[asked.path]
        if callable(answer) and not isinstance(answer, Response):
            answer = answer(asked)
        response = answer if isinstance(answer, Response) else JSONResponse(answer)
        await response(scope, receive, send)


@asynccontextmanager
async def an_application(**answers: Any) -> AsyncGenerator[AnApplication]:
    """One that runs; `connect={…}` is what it answers at `/connect`."""
    application = AnApplication()
    application.answers = {f"/{name}": answer for name, answer in answers.items()}
    async with served(application, options={}) as application.port:
        yield application
        application.goes_on.set()
