"""A client of the protocol that is nobody's SDK: it says and hears lines as they are."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from tests.gateway.chatting import RunningGateway
from tests.gateway.serving import DEADLINE_SECONDS, until

Message = dict[str, Any]
TRY_AGAIN_LATER = 3004


class Talk:
    """One connection; what came and was not asked for yet lies in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = count(1)
        self._came: list[Message] = []

    async def say(self, *commands: Message) -> None:
        await self.socket.send("\n".join(map(json.dumps, commands)))

    async def ask(self, method: str, /, **asked: Any) -> Any:
        """Send a command; its result, or its error with the name `error`. Pushes are kept."""
        command_id = next(self._ids)
        await self.say({"id": command_id, method: asked})
        message = await self.reply(command_id)
        return message[method] if method in message else {"error": message["error"]}

    async def reply(self, command_id: int) -> Message:
        """The reply to a command that was sent before. Pushes are kept."""
        while True:
            message = await self._read()
            if message.get("id") == command_id:
                return message
            self._came.append(message)

    async def push(self) -> Message:
        """The next push."""
        while True:
            message = self._came.pop(0) if self._came else await self._read()
            if "push" in message:
                pushed: Message = message["push"]
                return pushed

    async def publication(self, channel: str) -> Message:
        """The next publication in a channel; what else is pushed is skipped."""
        while True:
            push = await self.push()
            if push.get("channel") == channel and "pub" in push:
                publication: Message = push["pub"]
                return publication

    async def closed(self) -> tuple[int, str]:
        """Read on to the end; how it was closed."""
        try:
            while True:
                await self._read()
        except ConnectionClosed:
            return self.socket.close_code or 1006, self.socket.close_reason or ""

    async def _read(self) -> Message:
        async with asyncio.timeout(DEADLINE_SECONDS):
            message: Message = json.loads(await self.socket.recv())
        return message


@asynccontextmanager
async def talk(
    gateway: RunningGateway,
    path: str = "/connection/websocket",
    *,
    compression: str | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncGenerator[Talk]:
    """A connection that has said nothing yet."""
    async with connect(
        f"ws://127.0.0.1:{gateway.port}{path}",
        additional_headers=headers,
        compression=compression,
        max_queue=None,
        close_timeout=1,
    ) as socket:
        yield Talk(socket)


@asynccontextmanager
async def talking(gateway: RunningGateway, token: str, **asked: Any) -> AsyncGenerator[Talk]:
    """One that is connected. It comes again, as all do, if it is told to try later: while the
    gateway reads anew who is present, it lets nobody in."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(talk(gateway))
        try:
            connected = await client.ask("connect", token=token, **asked)
        except ConnectionClosed:
            if client.socket.close_code != TRY_AGAIN_LATER:
                raise
            await until(lambda: not gateway.parts.ready())
            client = await stack.enter_async_context(talk(gateway))
            connected = await client.ask("connect", token=token, **asked)
        assert "error" not in connected, connected
        yield client


async def publish_seen(
    client: Talk, publisher: Publisher, channel: ChannelName, *data: object
) -> list[int]:
    """The offsets of what was published, once the subscribed client's gateway has sent it all."""
    offsets = [(await publish(publisher, channel, each)).offset for each in data]
    while (await client.publication(channel))["offset"] < offsets[-1]:
        continue
    return offsets
