"""What services order of connections, at a gateway whose sockets and bus are nowhere."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.app import Gateway
from gateway.errors import EndReason
from gateway.protocols.centrifuge.codec import WEBSOCKET
from gateway.protocols.centrifuge.orders import (
    DisconnectOrder,
    Orders,
    RefreshOrder,
    SubscribeOrder,
    UnsubscribeOrder,
)
from gateway.session.session import Session
from gateway.settings import GatewaySettings
from gateway.transport.frames import Close
from shared.contracts.ids import ChannelName, UserId
from shared.contracts.json_values import RawJson
from shared.jetstream.clock import our_clock
from shared.jetstream.publisher import Publisher
from shared.nats.client import Bus
from shared.runtime.supervision import Supervisor
from shared.tokens.claims import Claims
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


def a_session(gateway: Gateway, user_id: UserId = ANN) -> Session:
    kind = gateway.centrifuge.kind_of(WEBSOCKET)
    claims = Claims(user_id, "Ann", None, issued_at=None, expires_at=our_clock() + 100)
    session = Session(AConnection(), claims, kind)
    session.begin(0)
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
