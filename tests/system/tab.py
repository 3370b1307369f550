"""A tab for whole-process tests: it remembers the last offset it saw, as a client should."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

Frame = dict[str, Any]

DEADLINE_SECONDS = 20.0


class Tab:
    """One `/ws/chat` socket; what it received lies in ``frames``, over all its lives."""

    def __init__(self, url: str, token: str, room: str) -> None:
        self.url = url
        self.frames: list[Frame] = []
        self.since: int | None = None
        self.epoch = ""
        self.closed: tuple[int, str] | None = None
        self.closes: list[tuple[int, str]] = []
        """Of all lives so far."""
        self._token = token
        self._room = room
        self.changed = asyncio.Condition()
        self._socket: ClientConnection | None = None

    async def live(self) -> None:
        """Be connected until the socket is closed, by whomever."""
        query = {"token": self._token, "room": self._room}
        if self.since is not None:
            query |= {"since": str(self.since), "epoch": self.epoch}
        self.closed = None
        address = f"{self.url}/ws/chat?{urlencode(query)}"
        async with connect(address, max_queue=None, compression=None) as socket:
            self._socket = socket
            try:
                async for text in socket:
                    await self._take(json.loads(text))
            except ConnectionClosed:
                pass
            self.closed = (socket.close_code or 1006, socket.close_reason or "")
            self.closes.append(self.closed)
        async with self.changed:
            self.changed.notify_all()

    async def persist(self, *urls: str) -> None:
        """Be connected for ever: to the next of the gateways whenever a socket ends."""
        turn = 0
        while True:
            try:
                await self.live()
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                self.closed = (1006, "refused")
            turn += 1
            self.url = urls[turn % len(urls)]
            await asyncio.sleep(0.05)  # a client's pause between its tries

    async def send(self, **command: object) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps(command))

    async def say(self, identifier: str, body: str, *, seconds: float = DEADLINE_SECONDS) -> Frame:
        """Send until it is acked, as a client does, over reconnects; return the ack."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.send(type="message", id=identifier, body=body)
                    return await self.until(
                        lambda f: f["type"] == "ack" and f["id"] == identifier, seconds=1.5
                    )
                except (AssertionError, ConnectionClosed, TimeoutError):
                    await asyncio.sleep(0.05)

    async def until(
        self, wanted: Callable[[Frame], bool], *, seconds: float = DEADLINE_SECONDS
    ) -> Frame:
        """The first frame ever received that is wanted; fails with what came instead."""

        def found() -> Frame | None:
            return next((frame for frame in self.frames if wanted(frame)), None)

        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise TimeoutError(f"not in {self.frames[-20:]}, closed: {self.closed}") from None
        frame = found()
        assert frame is not None
        return frame

    async def until_has(self, bodies: set[str]) -> None:
        """Return when all of these were said here."""
        async with asyncio.timeout(2 * DEADLINE_SECONDS), self.changed:
            await self.changed.wait_for(lambda: bodies <= set(self.bodies()))

    async def until_closed(self) -> tuple[int, str]:
        async with asyncio.timeout(DEADLINE_SECONDS), self.changed:
            await self.changed.wait_for(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    async def until_first_close(self) -> tuple[int, str]:
        async with asyncio.timeout(DEADLINE_SECONDS), self.changed:
            await self.changed.wait_for(lambda: bool(self.closes))
        return self.closes[0]

    def of_type(self, kind: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] == kind]

    def bodies(self) -> list[str]:
        return [frame["body"] for frame in self.of_type("message")]

    async def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        if frame["type"] == "welcome":
            self.epoch = frame["epoch"]
        if "offset" in frame and frame["type"] != "ack":
            self.since = frame["offset"]
        async with self.changed:
            self.changed.notify_all()


@asynccontextmanager
async def open_tab(url: str, token: str, room: str = "lobby") -> AsyncGenerator[Tab]:
    """A welcomed tab on one gateway; its socket is closed at the end."""
    tab = Tab(url, token, room)
    async with asyncio.TaskGroup() as group:
        living = group.create_task(tab.live())
        await tab.until(lambda frame: frame["type"] == "welcome")
        yield tab
        living.cancel()


@asynccontextmanager
async def persistent_tab(*urls: str, token: str, room: str = "lobby") -> AsyncGenerator[Tab]:
    """A welcomed tab that comes back by itself, to the gateways in turn."""
    tab = Tab(urls[0], token, room)
    async with asyncio.TaskGroup() as group:
        living = group.create_task(tab.persist(*urls))
        await tab.until(lambda frame: frame["type"] == "welcome")
        yield tab
        living.cancel()
