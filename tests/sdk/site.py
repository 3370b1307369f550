"""Gateways behind one address, what they are told to allow, and who comes to them."""

import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish, publish_ephemeral
from hubbub_client.nats.client import Bus
from tests.e2e.fault_proxy import FaultProxy, Faults, fault_proxy
from tests.fixtures.tokens import SECRET, a_foreign_token
from tests.gateway.chatting import RunningGateway, a_gateway, now
from tests.gateway.serving import until
from tests.sdk.clients import SdkClient
from tests.sdk.javascript import TRANSPORTS, VERSIONS, Driver
from tests.sdk.python import PyClient

API_KEY = "the key of these tests"
TALK = {"subscribe": "users", "publish": "users"}
NAMESPACES: dict[str, dict[str, Any]] = {
    "talk": TALK | {"force_recovery": True, "presence": True, "join_leave": True},
    "short": TALK | {"force_recovery": True, "history_size": 2, "history_ttl": "300s"},
    "state": TALK
    | {"force_recovery": True, "allowed_delta_types": ["fossil"], "delta_publish": True},
    "plain": TALK | {"history": False},
    "cursors": TALK | {"ephemeral": True},
    "news": {"subscribe": "users", "publish": "services"},
}
EPHEMERAL_BURST = 10
SHORT_SECONDS = 3.0
"""The life of a token that is to end: whoever it is made for has to come before."""
IN_NODE = [f"{version}-{transport}" for version in VERSIONS for transport in TRANSPORTS]
SDKS = ["python", *IN_NODE]
SETTINGS: dict[str, Any] = {
    "api_key": API_KEY,
    "namespaces": NAMESPACES,
    "recovery_max_publication_limit": 10_000,  # no test is about how fast a client comes back
    "ephemeral_per_second": 0.01,  # and one is about who sends too many
    "ephemeral_burst": EPHEMERAL_BURST,
}


def a_channel(namespace: str) -> ChannelName:
    """A channel that no other test uses."""
    return ChannelName(f"{namespace}:{secrets.token_hex(6)}")


def a_user(name: str = "user") -> str:
    return f"{name}-{secrets.token_hex(6)}"


def connection_token(user: str, *, seconds: float = 900, **claims: Any) -> str:
    return a_foreign_token({"sub": user, "exp": now() + seconds, **claims})


def subscription_token(user: str, channel: str, *, seconds: float = 900, **claims: Any) -> str:
    return connection_token(user, seconds=seconds, channel=channel, **claims)


def sdk_gateway(nats_url: str) -> AbstractAsyncContextManager[RunningGateway]:
    return a_gateway(nats_url, settings=SETTINGS, hmac_secret=SECRET)


@dataclass
class Site:
    """What a test has of gateways: whoever connects gets to each of them in turns."""

    gateways: Sequence[RunningGateway]
    proxy: FaultProxy
    url: str
    publisher: Publisher
    bus: Bus

    def send_to(self, *gateways: RunningGateway) -> None:
        """Whoever connects from now on gets to these."""
        self.proxy.upstreams = deque(("127.0.0.1", each.port) for each in gateways)
        self.proxy.faults = Faults()

    def hang_up(self) -> None:
        """End all connections, and let nobody come back for now."""
        self.proxy.faults = Faults(refusing=True)
        self.proxy.reset_all()

    async def publish(self, channel: ChannelName, *data: Any) -> None:
        """As a service does on the bus."""
        for each in data:
            await publish(self.publisher, channel, each)

    async def until_left(self, channel: ChannelName) -> None:
        """Return when nobody is subscribed; an SDK does not wait for the gateway to hear of it.

        What is published before that reaches a client that has unsubscribed.
        """
        managers = [each.parts.manager for each in self.gateways]
        await until(lambda: not any(list(each.subscriptions_to(channel)) for each in managers))

    def publish_ephemeral(self, channel: ChannelName, *data: Any) -> None:
        """As a service does on the bus, for those who are there."""
        for each in data:
            publish_ephemeral(self.bus, channel, each)


@asynccontextmanager
async def a_site(bus: Bus, publisher: Publisher, *gateways: RunningGateway) -> AsyncGenerator[Site]:
    async with fault_proxy("127.0.0.1", gateways[0].port) as (proxy, port):
        site = Site(gateways, proxy, f"http://127.0.0.1:{port}", publisher, bus)
        site.send_to(*gateways)
        yield site


class Sdk(NamedTuple):
    """One version of an SDK over one transport, and the clients that a test has of it."""

    name: str
    transport: str
    driver: Driver | None
    """Of those in Node."""
    clients: list[SdkClient]

    async def client(self, site: Site, user: str | None = None, **options: Any) -> SdkClient:
        """One that isn't connected yet; of that user or a new one, unless it shows something else.

        That is `token`, `tokens` or a `cookie`.
        """
        if options.keys().isdisjoint(("token", "tokens", "cookie")):
            options["token"] = connection_token(user or a_user())
        if self.driver is None:
            client: SdkClient = PyClient(site.url, **options)
        else:
            made = {"version": self.name, "transport": self.transport}
            client = await self.driver.open(site.url, **made, **options)
        self.clients.append(client)
        return client
