"""Requests begin a few in each turn of the loop, however many came in it."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

_REQUESTS_A_TURN = 4
"""Some milliseconds, if they wait for nothing."""


class RequestTurns:
    """An ASGI application around another, in which requests wait for their turn, first come first.

    Hundreds of connections may each have one request after another ready. All of them begun in
    one turn of the loop, that turn would last as long as they do together, and everybody else
    who has a connection here would wait for its end.
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
                turn = loop.create_future()
                self._waiting.append(turn)
                await turn
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
            turn = self._waiting.popleft()
            if not turn.done():  # who was given up does not take one
                self._begin(loop)
                turn.set_result(None)
