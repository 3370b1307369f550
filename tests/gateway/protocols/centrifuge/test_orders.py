"""What services order of connections, and what ends by itself, at a gateway whose sockets and bus
are nowhere."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.app import Gateway
from gateway.channels.connection import Connection
from gateway.channels.registry import Subscription
from gateway.errors import EndReason, MayNotSubscribe
from gateway.protocols.centrifuge.codec import WEBSOCKET
from gateway.protocols.centrifuge.codes import (
    SERVER_UNSUBSCRIBE,
    SUBSCRIPTION_OVER,
    Errors,
    Unsubscribe,
)
from gateway.protocols.centrifuge.commands import NOTHING_ASKED, Command, Subscribe
from gateway.protocols.centrifuge.dialogue import Dialogue
from gateway.protocols.centrifuge.orders import (
    DisconnectOrder,
    Orders,
    RefreshOrder,
    SubscribeOrder,
    UnsubscribeOrder,
)
from gateway.protocols.centrifuge.service import details_of
from gateway.protocols.centrifuge.subscriptions import Wanted, begin_subscription, subscribe
from gateway.session.missed import Position
from gateway.session.session import Session, SessionKind
from gateway.settings import GatewaySettings
from gateway.streams.feed import Reason
from gateway.transport.frames import Close
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.json_values import RawJson
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import Bus
from shared.runtime.supervision import Supervisor
from shared.tokens.claims import NEVER, NO_GRANT, Claims
from shared.tokens.keys import FixedKeys
from tests.fixtures.tokens import OUR_KEY, a_verifier
from tests.gateway.chatting import now
from tests.gateway.connections import AConnection

ANN = UserId("ann")


@pytest.fixture
async def gateway(bus: Bus, publisher: Publisher) -> Gateway:
    registry = CollectorRegistry()
    return Gateway(
        GatewaySettings(),
        bus=bus,
        publisher=publisher,
        presence_publisher=publisher,
        verifier=a_verifier(now=now, keys=FixedKeys([OUR_KEY])),
        registry=registry,
        supervisor=Supervisor(registry),
        complete_at=None,
        now=our_clock,
    )


@pytest.fixture
def orders(gateway: Gateway) -> Orders:
    return Orders(gateway.centrifuge)


def a_session(
    gateway: Gateway,
    user_id: UserId = ANN,
    *,
    kind: type[Session] = Session,
    connection: AConnection | None = None,
) -> Session:
    claims = Claims(user_id, "Ann", None, issued_at=None, expires_at=our_clock() + 100)
    codec = gateway.centrifuge.kind_of(WEBSOCKET)
    session = kind(connection or AConnection(), claims, codec)
    session.begin()
    return session


def told(session: Session) -> list[str]:
    """The kinds of the pushes that it was sent."""
    assert isinstance(session.connection, AConnection)
    return [
        kind for each in session.connection.messages for kind in each["push"] if kind != "channel"
    ]


async def test_what_is_ordered_before_connect_is_answered_is_told_after_that(
    gateway: Gateway, orders: Orders
) -> None:
    session = a_session(gateway)
    gateway.centrifuge.hold(session)
    orders.subscribe(SubscribeOrder(user=ANN, channel="post:1"))
    orders.unsubscribe(UnsubscribeOrder(user=ANN, channel="post:1"))
    orders.refresh(RefreshOrder(user=ANN))
    before = told(session)
    gateway.centrifuge.release(session)

    assert before == []
    assert told(session) == ["subscribe", "unsubscribe", "refresh"]
    assert not session.is_subscribed(ChannelName("post:1"))


async def test_who_left_meanwhile_is_subscribed_to_nothing(
    gateway: Gateway, orders: Orders
) -> None:
    session = a_session(gateway)
    gateway.centrifuge.hold(session)
    orders.subscribe(SubscribeOrder(user=ANN, channel="post:1"))
    assert isinstance(session.connection, AConnection)
    session.connection.lose()
    session.end()
    gateway.centrifuge.release(session)

    assert session.subscriptions == ()
    assert gateway.manager.channels() == set()


async def test_a_channel_of_another_gateways_settings_is_refused_and_ends_nobody(
    gateway: Gateway, orders: Orders
) -> None:
    session, held = a_session(gateway), a_session(gateway)
    gateway.centrifuge.hold(held)
    with pytest.raises(MayNotSubscribe):
        orders.subscribe(SubscribeOrder(user=ANN, channel="of_another:1"))
    gateway.centrifuge.release(held)

    assert [each.connection.is_open for each in (session, held)] == [True, True]


async def test_an_order_is_for_its_user_and_client_alone(gateway: Gateway, orders: Orders) -> None:
    meant, other, stranger = a_session(gateway), a_session(gateway), a_session(gateway, UserId("b"))
    client = meant.connection.id
    orders.subscribe(SubscribeOrder(user=ANN, channel="post:1", client=client))
    orders.disconnect(DisconnectOrder(user=ANN, client=client, code=4000, reason="x"))
    orders.disconnect(DisconnectOrder(user=ANN, session="of nobody", code=4000, reason="x"))
    orders.disconnect(DisconnectOrder(user="", code=4000, reason="x"))

    assert [told(each) for each in (meant, other, stranger)] == [["subscribe"], [], []]
    closes = [each.connection.closing for each in (meant, other, stranger)]
    assert closes == [Close(4000, "x"), None, None]


async def test_a_refresh_without_an_end_leaves_the_end_as_it_is(
    gateway: Gateway, orders: Orders
) -> None:
    session = a_session(gateway)
    before = session.claims
    orders.refresh(RefreshOrder(user=ANN, info={"info": {"a": 1}}))
    without_end = session.claims
    orders.refresh(RefreshOrder(user=ANN, expire_at=before.expires_at + 50))
    later = session.claims
    orders.refresh(RefreshOrder(user=ANN, expired=True))

    assert without_end == replace(before, info=RawJson(b'{"a":1}'))
    assert later == replace(without_end, expires_at=before.expires_at + 50)
    assert session.connection.closing is EndReason.TOKEN_EXPIRED


class RecoversLate(Session):
    """Is told what it missed when the test says so."""

    __slots__ = ("asked", "released")

    def __init__(self, connection: Connection, claims: Claims, kind: SessionKind) -> None:
        super().__init__(connection, claims, kind)
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def missed(
        self, wanted: Mapping[Subscription, Position | None]
    ) -> dict[Subscription, list[StoredPublication] | Reason]:
        self.asked.set()
        await self.released.wait()
        return {}


class OneCommand(Dialogue):
    """Of a client that says nothing more."""

    def done(self) -> None: ...


@pytest.mark.parametrize(
    ("why", "error"),
    [
        (SERVER_UNSUBSCRIBE, Errors.PERMISSION_DENIED),
        (SUBSCRIPTION_OVER, Errors.INTERNAL),  # which is temporary, so the client asks again
    ],
)
async def test_what_ends_before_its_subscribe_is_answered_is_told_by_the_answer(
    gateway: Gateway, why: Unsubscribe, error: Errors
) -> None:
    channel = ChannelName("post:1")
    async with asyncio.TaskGroup() as group:
        session = a_session(gateway, kind=RecoversLate, connection=AConnection(group))
        assert isinstance(session, RecoversLate)
        client = OneCommand.of(session, gateway.centrifuge, WEBSOCKET)
        asked = Subscribe(channel=channel, recoverable=True, recover=True, offset=1)
        subscribe(client, Command(1, "subscribe", asked))
        await session.asked.wait()
        subscription = session.subscription_to(channel)
        assert subscription is not None
        gateway.centrifuge.unsubscribe(session, subscription, why)
        session.released.set()

    assert isinstance(session.connection, AConnection)
    [answer] = session.connection.messages
    assert answer["error"]["code"] == error.value.code


async def test_subscriptions_end_by_the_clock_as_it_is_after_a_jump(gateway: Gateway) -> None:
    centrifuge, clock = gateway.centrifuge, asyncio.get_running_loop().time
    client = Dialogue.of(a_session(gateway), centrifuge, WEBSOCKET)
    for channel, expires_at in (("post:1", our_clock() + 100), ("post:2", NEVER)):
        name = ChannelName(channel)
        options = client.session.options_of(name)
        wanted = Wanted(name, options, NOTHING_ASKED, NO_GRANT, expires_at=expires_at)
        begin_subscription(client, wanted)
    ends_in_time, never_ends = client.session.subscriptions
    details = details_of(ends_in_time)
    before = details.expiry
    details.ends_at -= 50  # as if the clock had gone on by as much
    centrifuge.end_with_tokens()

    assert before is not None
    assert before.cancelled()
    assert details.expiry is not None
    assert details.expiry.when() - clock() == pytest.approx(75, abs=5)
    assert details_of(never_ends).expiry is None
