"""A few requests begin in each turn of the event loop, however many have arrived."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

_REQUESTS_A_TURN = 4
"""Some milliseconds, if none of them waits for anything."""


class RequestTurns:
    """ASGI middleware that queues requests, first come, first served.

    Hundreds of connections may each have one request after another ready. If all of them began
    in one turn of the loop, every other connection would wait until all have run.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._begun = 0
        """In this turn of the loop."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            loop = asyncio.get_running_loop()
            if self._waiting or self._begun >= _REQUESTS_A_TURN:
                may_begin = loop.create_future()
                self._waiting.append(may_begin)
                await may_begin
            else:
                self._begin(loop)
        await self._app(scope, receive, send)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._begun:
            loop.call_soon(self._end_turn, loop)
        self._begun += 1

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        while self._waiting and self._begun < _REQUESTS_A_TURN:
            may_begin = self._waiting.popleft()
            if not may_begin.done():  # not cancelled while it waited
                self._begin(loop)
                may_begin.set_result(None)
