"""Whole gateways in the test's process, on a real NATS and real ports, and tabs to use them."""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gateway.app import GatewayParts, create_app, serving
from gateway.settings import GatewaySettings
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from shared.tokens.issuers import Issuer
from shared.tokens.keys import FixedKeys, KeySource
from shared.tokens.revocations import CompletePosition
from tests.fixtures import plain_http
from tests.fixtures.documented_messages import is_documented
from tests.fixtures.tokens import OUR_KEY, a_token, a_verifier, some_claims
from tests.gateway.serving import DEADLINE_SECONDS, served, until

Message = dict[str, Any]
LEASE_IS_OVER_SECONDS = 60.0
TRY_AGAIN_LATER = 1013
OPERATIONS = ("chat.send", "notifications.send")
"""Of the AsyncAPI document: what a tab is sent."""


def now() -> float:
    return datetime.now(UTC).timestamp()


def token_of(user_id: int, name: str, *, seconds: float = 900, **claims: Any) -> str:
    """A token of our own issuer, in a session of its own unless told otherwise."""
    moment = now()
    fresh = {"sub": str(user_id), "name": name, "sid": secrets.token_hex(8)}
    times = {"iat": moment - 1, "exp": moment + seconds}
    return a_token(some_claims(**(fresh | times | claims)))


class Tab:
    """One `/ws/chat` connection of a user; what it got and did not ask for yet lies in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome: Message = {}

    async def send(self, **command: Any) -> None:
        await self.socket.send(json.dumps(command))

    async def get(self) -> Message:
        """The next message, whatever it is."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            message: Message = json.loads(await self.socket.recv())
        assert any(is_documented(each, message) for each in OPERATIONS), message
        return message

    async def is_welcome(self) -> bool:
        """Keep the welcome; or it is to come again later."""
        try:
            self.welcome = await self.get()
        except ConnectionClosed as end:
            if end.rcvd is None or end.rcvd.code != TRY_AGAIN_LATER:
                raise
            return False
        return True

    async def until(self, kind: str, **fields: Any) -> Message:
        """Skip to the next message of that type and with those fields."""
        while True:
            message = await self.get()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def all_until(self, kind: str, **fields: Any) -> list[Message]:
        """All messages before that one."""
        messages: list[Message] = []
        while True:
            message = await self.get()
            if message["type"] == kind and fields.items() <= message.items():
                return messages
            messages.append(message)

    async def say(self, *bodies: str) -> int:
        """Say these; return the last one's offset when all are stored."""
        offset = 0
        for body in bodies:
            await self.send(type="message", body=body, id=body)
            offset = (await self.until("ack", id=body))["offset"]
        return offset

    async def pong(self) -> int:
        """Ping; where the stream stands for this tab. What precedes the answer is skipped."""
        await self.send(type="ping")
        offset: int = (await self.until("pong"))["offset"]
        return offset

    async def so_far(self) -> list[Message]:
        """All that was sent before now: what precedes the answer to a ping."""
        await self.send(type="ping")
        return await self.all_until("pong")

    async def closed(self) -> tuple[int, str]:
        """Read on to the end; how the gateway closed it."""
        return (await self.closed_after())[1]

    async def closed_after(self) -> tuple[list[Message], tuple[int, str]]:
        """All that came before the end, and how the gateway closed it."""
        messages: list[Message] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                while True:
                    messages.append(json.loads(await self.socket.recv()))
            except ConnectionClosed as end:
                return messages, (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


@dataclass
class RunningGateway:
    port: int
    parts: GatewayParts
    registry: CollectorRegistry
    publisher: Publisher

    @asynccontextmanager
    async def socket(
        self,
        *,
        subprotocols: list[str] | None = None,
        receive_buffer_bytes: int | None = None,
        forwarded_for: str | None = None,
        path: str = "/ws/chat",
        compression: str | None = None,
        **query: Any,
    ) -> AsyncGenerator[Tab]:
        """A connection as the query asks for it, not yet welcomed."""
        raw = socket.socket()
        if receive_buffer_bytes is not None:  # before it connects, or it has no effect
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        except BaseException:  # nobody is there, or nobody waits for it any more
            raw.close()
            raise
        async with connect(
            f"ws://127.0.0.1:{self.port}{path}?{urlencode(query)}",
            subprotocols=[Subprotocol(each) for each in subprotocols or []] or None,
            additional_headers={"X-Forwarded-For": forwarded_for} if forwarded_for else None,
            compression=compression,
            max_queue=None,
            close_timeout=1,
            sock=raw,
        ) as connected:
            yield Tab(connected)

    @asynccontextmanager
    async def tab(self, user_id: int, name: str, room: str, **query: Any) -> AsyncGenerator[Tab]:
        """A tab of a user, welcomed. It comes again, as all do, if it is told to try later: while
        the gateway reads anew who is present, it lets nobody in."""
        query = {"token": token_of(user_id, name), "room": room} | query
        async with AsyncExitStack() as stack:
            tab = await stack.enter_async_context(self.socket(**query))
            while not await tab.is_welcome():
                await until(lambda: not self.parts.ready())
                tab = await stack.enter_async_context(self.socket(**query))
            yield tab

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def a_gateway(
    nats_url: str,
    *,
    wait: bool = True,
    settings: dict[str, Any] | None = None,
    keys: KeySource | None = None,
    hmac_secret: str | None = None,
    issuers: Sequence[Issuer] = (),
    window: int = 2000,
    complete_at: Callable[[], CompletePosition | None] | None = None,
    clock: Callable[[], float] = our_clock,
) -> AsyncGenerator[RunningGateway]:
    """A gateway that trusts the tests' key, or ``keys``; ready, unless it is not waited for.

    ``hmac_secret``, ``issuers``: whose tokens it takes beside those.
    ``window``: as of the publisher that all share. ``clock``: the machine's, as it is compared.
    """
    registry = CollectorRegistry()
    ordinary: dict[str, Any] = {"presence_grace_seconds": 0.2, "drain_seconds": 1}
    # Each would read back what all tests before it said.
    ordinary["ring_messages"] = 1000
    verifier = a_verifier(
        now=now, keys=keys or FixedKeys([OUR_KEY]), hmac_secret=hmac_secret, more=issuers
    )
    async with (
        connect_bus(nats_url, name="gateway") as bus,
        start_publisher(bus, window=window) as publisher,
        _streams_on(bus, wait=wait),
        serving(
            GatewaySettings(**(ordinary | (settings or {}))),
            bus=bus,
            publisher=publisher,
            verifier=verifier,
            registry=registry,
            complete_at=complete_at,
            now=clock,
        ) as parts,
        served(
            create_app(parts, registry=registry), drain=parts.drain, options=parts.server_options
        ) as port,
    ):
        if wait:
            await until(lambda: not parts.ready())
        if wait and settings is not None and "api_key" in settings:
            await _until_all_answer(port, settings["api_key"])
        yield RunningGateway(port, parts, registry, publisher)


async def _until_all_answer(port: int, api_key: str | SecretStr) -> None:
    """Services are refused orders while a gateway of an earlier test still seems to be there."""
    key = api_key if isinstance(api_key, str) else api_key.get_secret_value()
    async with asyncio.timeout(LEASE_IS_OVER_SECONDS), plain_http.client() as http:
        url, headers = f"http://127.0.0.1:{port}/api/info", {"X-API-Key": key}
        while "error" in (await http.post(url, headers=headers, json={})).json():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _streams_on(bus: Bus, *, wait: bool) -> AsyncGenerator[None]:
    """Make sure of the streams, if the gateway is to be ready."""
    if wait:
        await bootstrap(bus)
    yield


def a_room() -> str:
    """A room that no other test uses."""
    return f"room-{secrets.token_hex(6)}"
