"""How connections end, and who is not let in whatever the token."""

import asyncio
import gc
import json
import socket
from contextlib import suppress
from typing import Any
from unittest.mock import ANY

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.channels.options import Namespace, Who
from gateway.protocols.chat.client import ChatClient
from gateway.protocols.chat.codec import encode
from gateway.protocols.chat.frames import UserJoined
from gateway.session.session import Session
from gateway.streams.ring import Ring
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from shared.tokens.claims import SessionId
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked, UserRevoked
from tests.fixtures import plain_http
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, token_of
from tests.gateway.serving import until

INVALID_TOKEN = (1008, "Invalid token")


async def revoke(publisher: Publisher, message: SessionRevoked | UserRevoked) -> None:
    await publisher.publish(
        SESSION_REVOKED_SUBJECT, message.model_dump_json().encode(), message_id=message.id
    )


async def test_a_session_that_is_over_ends_on_every_gateway_and_no_other_does(
    gateway: RunningGateway, other: RunningGateway, publisher: Publisher
) -> None:
    room, session = a_room(), SessionId(a_room())
    token = token_of(1, "Ann", sid=session)
    async with (
        gateway.socket(token=token, room=room) as one,
        other.socket(token=token, room=room) as two,
        gateway.tab(1, "Ann", room) as another_session,
    ):
        await one.until("welcome")
        await two.until("welcome")
        await revoke(publisher, SessionRevoked(session_id=session, user_id=UserId("1")))

        assert await one.closed() == (1008, "Session ended")
        assert await two.closed() == (1008, "Session ended")
        await another_session.send(type="message", body="still here", id="m")
        await another_session.until("ack")
    async with gateway.socket(token=token, room=room) as late:
        assert await late.closed() == INVALID_TOKEN


async def test_a_prolonged_connection_ends_with_its_new_session_not_with_its_old(
    gateway: RunningGateway, publisher: Publisher
) -> None:
    before, after = SessionId(a_room()), SessionId(a_room())
    async with gateway.socket(token=token_of(1, "Ann", sid=before), room=a_room()) as tab:
        await tab.until("welcome")
        await tab.send(type="auth", token=token_of(1, "Ann", sid=after))
        await tab.send(type="message", body="x", id="behind")
        await tab.until("ack")
        await revoke(publisher, SessionRevoked(session_id=before, user_id=UserId("1")))
        async with gateway.socket(token=token_of(1, "Ann", sid=before)) as late:
            assert await late.closed() == INVALID_TOKEN
        assert {m["type"] for m in await tab.so_far()} <= {"message"}
        await revoke(publisher, SessionRevoked(session_id=after, user_id=UserId("1")))
        assert await tab.closed() == (1008, "Session ended")


async def test_a_gateway_that_starts_later_knows_what_was_revoked(
    nats_url: str, gateway: RunningGateway, publisher: Publisher
) -> None:
    session = SessionId(a_room())
    await revoke(publisher, SessionRevoked(session_id=session, user_id=UserId("1")))
    async with (
        a_gateway(nats_url, wait=False) as late,
        late.socket(token=token_of(1, "Ann", sid=session)) as tab,
    ):
        assert await tab.closed() in {INVALID_TOKEN, (1013, "not ready")}
        await until(lambda: not late.parts.ready())
        async with late.socket(token=token_of(1, "Ann", sid=session)) as again:
            assert await again.closed() == INVALID_TOKEN


async def test_a_gateway_without_a_bus_lets_nobody_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"nats://127.0.0.1:{deaf.getsockname()[1]}"
        await _lets_nobody_in(url)


async def _lets_nobody_in(nats_url: str) -> None:
    async with (
        a_gateway(nats_url, wait=False) as gateway,
        gateway.socket(token=token_of(1, "Ann")) as tab,
    ):
        assert await tab.closed() == (1013, "not ready")
        assert "the bus is not connected" in gateway.parts.ready()


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"binary", 1003), ("x" * 65537, 1009), (["x" * 40000, "x" * 40000], 1009)],
)
async def test_what_is_no_message_ends_the_connection(
    gateway: RunningGateway, message: Any, code: int
) -> None:
    async with gateway.tab(1, "Ann", a_room()) as tab:
        await tab.socket.send(message)
        assert (await tab.closed())[0] == code


def a_long_one(number: int) -> list[Any]:
    return [number, "x" * 60_000]


async def test_a_tab_that_stalls_is_sent_all_of_it_later_once_and_in_order(
    nats_url: str, publisher: Publisher
) -> None:
    room = a_room()
    async with (
        a_gateway(nats_url, settings={"max_pending_bytes": 100_000}) as gateway,
        gateway.tab(1, "Ann", room) as ann,
        gateway.socket(receive_buffer_bytes=65536, token=token_of(2, "Ben"), room=room) as stalled,
    ):
        await stalled.until("welcome")
        stalled.socket.transport.pause_reading()
        for number in range(170):  # 10 MB: more than the kernel takes for him, and the old limit
            await publish(publisher, room_channel(room), a_long_one(number))
        await ann.until("publication", data=a_long_one(169))
        assert gateway.metric("hubbub_lagging_total") == 1
        async with gateway.tab(3, "Cem", room):
            stalled.socket.transport.resume_reading()
            for number in range(170):
                assert (await stalled.until("publication"))["data"][0] == number
            users = await stalled.until("users")
            assert users["count"] == 3, "who came meanwhile is told as who is here"

        stored = await publish(publisher, room_channel(room), "live again")
        assert await stalled.until("publication") == {
            "type": "publication", "data": "live again", "offset": stored.offset, "time": ANY
        }  # fmt: skip
        await stalled.send(type="ping")
        assert (await stalled.until("pong"))["offset"] >= stored.offset


async def test_a_stalled_tab_of_a_room_without_history_is_sent_the_newest(
    nats_url: str, publisher: Publisher
) -> None:
    room = a_room()
    namespaces = {"chat": Namespace(publish=Who.USERS, history=False)}
    limits = {"max_pending_bytes": 100_000, "namespaces": namespaces}
    async with (
        a_gateway(nats_url, settings=limits) as gateway,
        gateway.tab(1, "Ann", room) as ann,
        gateway.socket(receive_buffer_bytes=65536, token=token_of(2, "Ben"), room=room) as stalled,
    ):
        await stalled.until("welcome")
        stalled.socket.transport.pause_reading()
        for number in range(170):
            await publish(publisher, room_channel(room), a_long_one(number))
        await ann.until("publication", data=a_long_one(169))
        stalled.socket.transport.resume_reading()

        got = [(await stalled.until("publication"))["data"][0]]
        while got[-1] != 169:
            got.append((await stalled.until("publication"))["data"][0])
    assert got == sorted(got)
    assert len(got) < 170
    assert 168 not in got, "what is sent after the stall is the newest alone"


async def test_a_stalled_tab_is_not_told_of_all_who_come_and_go_but_of_who_is_here(
    nats_url: str,
) -> None:
    limits = {"max_pending_bytes": 50_000}
    async with (
        a_gateway(nats_url, settings=limits) as gateway,
        gateway.socket(receive_buffer_bytes=4096, token=token_of(2, "Ben"), room=a_room()) as tab,
    ):
        await tab.until("welcome")
        [session] = gateway.parts.manager.connections()
        assert isinstance(session, Session)
        tab.socket.transport.pause_reading()
        joined = encode(UserJoined(user_id=UserId("3"), name="x" * 1000, count=2))
        for _ in range(10_000):  # 10 MB, by far more than the kernel takes for him
            session.send(joined)
            await asyncio.sleep(0)
            if gateway.metric("hubbub_lagging_total"):
                break
        assert gateway.metric("hubbub_lagging_total") == 1

        tab.socket.transport.resume_reading()
        assert (await tab.until("users"))["count"] == 1
        session.send(joined)
        await tab.until("user_joined")


async def test_a_tab_that_never_reads_again_is_sent_away(
    nats_url: str, publisher: Publisher
) -> None:
    room = a_room()
    limits = {"max_pending_bytes": 100_000, "lag_seconds": 0.5, "close_seconds": 30}
    async with (
        a_gateway(nats_url, settings=limits) as gateway,
        gateway.socket(receive_buffer_bytes=65536, token=token_of(2, "Ben"), room=room) as stalled,
    ):
        await stalled.until("welcome")
        stalled.socket.transport.pause_reading()
        for number in range(100):
            await publish(publisher, room_channel(room), a_long_one(number))
        await until(lambda: gateway.metric("hubbub_lagging_total") == 1)
        [session] = gateway.parts.manager.connections()
        assert isinstance(session, Session)
        await until(lambda: not session.connection.is_open)
        stalled.socket.transport.resume_reading()

        assert await stalled.closed() == (1013, "too slow")


async def test_a_drain_asks_everybody_to_come_back(gateway: RunningGateway) -> None:
    async with gateway.tab(1, "Ann", a_room()) as one, gateway.tab(2, "Ben", a_room()) as two:
        async with asyncio.TaskGroup() as group:
            closes = [group.create_task(tab.closed()) for tab in (one, two)]
            await gateway.parts.drain()
        assert [close.result() for close in closes] == [(1012, "restarting")] * 2
    assert "draining" in gateway.parts.ready()
    async with gateway.socket(token=token_of(1, "Ann")) as late:
        assert await late.closed() == (1013, "not ready")


async def test_a_session_that_was_is_freed_without_the_collector(
    gateway: RunningGateway,
) -> None:
    def alive() -> int:
        return sum(type(each) in (ChatClient, Session) for each in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for number in range(3):
            async with gateway.tab(1, "Ann", a_room()) as ann:
                await ann.say("one", str(number))
                await ann.pong()
            async with gateway.socket(room=a_room()) as stranger:
                await stranger.send(type="ping")
                assert await stranger.closed() == INVALID_TOKEN
            async with gateway.socket(token="bad", room=a_room()) as stranger:
                assert await stranger.closed() == INVALID_TOKEN
        await until(lambda: alive() <= before)
    finally:
        gc.enable()


async def test_sessions_that_were_leave_nothing_behind(gateway: RunningGateway) -> None:
    tokens = [token_of(user_id, f"User {user_id}") for user_id in range(1, 9)]

    rooms = [a_room() for _ in range(400)]

    async def visit(room: str, token: str) -> bool:
        """Whether it was let in: it isn't while the gateway reads anew who is present."""
        async with gateway.socket(token=token, room=room) as tab:
            with suppress(ConnectionClosed):
                await tab.until("welcome")
                return True
        assert tab.socket.close_code == 1013
        return False

    async def come_and_go() -> None:
        for number, room in enumerate(rooms):
            if not await visit(room, tokens[number % 8]):
                await until(lambda: not gateway.parts.ready())
                assert await visit(room, tokens[number % 8])

    def is_ours(kind: type) -> bool:
        """Whatever else goes on in this process, and but for rings: they fill by themselves."""
        module = str(kind.__module__)  # of some types it is a property
        of_rings = kind is StoredPublication or module == Ring.__module__
        return module.partition(".")[0] in {"gateway", "shared"} and not of_rings

    def held() -> int:
        gc.collect()
        return sum(is_ours(type(each)) for each in gc.get_objects())

    before = held()
    await come_and_go()
    await until(lambda: held() - before < len(rooms) / 2)  # presence has its grace


async def test_another_path_is_no_socket(gateway: RunningGateway) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(f"ws://127.0.0.1:{gateway.port}/ws/other"):
            pass


async def test_the_metrics_and_the_document_are_served(gateway: RunningGateway) -> None:
    async with gateway.tab(1, "Ann", a_room()) as tab, plain_http.client() as http:
        await tab.send(type="message", body="hi")
        await tab.send(type="nonsense")
        await tab.until("message")
        await tab.until("error")
        # The answer of the bus comes by another way than the message.
        await until(lambda: gateway.metric("hubbub_publish_seconds_count") == 1)
        base = f"http://127.0.0.1:{gateway.port}"
        metrics = (await http.get(f"{base}/metrics")).text
        for line in (
            "hubbub_connections 1.0",
            "hubbub_users 1.0",
            "hubbub_channels 2.0",
            "hubbub_deliveries_total 1.0",
            'hubbub_follower_lag{stream="RT"} 0.0',
            "hubbub_publish_seconds_count 1.0",
            'hubbub_commands_total{type="message"} 1.0',
            'hubbub_errors_total{code="unknown_type"} 1.0',
        ):
            assert line in metrics
        assert json.loads((await http.get(f"{base}/asyncapi")).text)["asyncapi"] == "3.1.0"
        assert (await http.get(f"{base}/readyz")).status_code == 200


@pytest.mark.usefixtures("gateway")  # which made the streams
@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-600, "the clock here is 600 s behind that of the bus"),
     (600, "the clock here is 600 s ahead of that of the bus")],
)  # fmt: skip
async def test_a_gateway_whose_clock_is_off_says_so_and_lets_nobody_in(
    nats_url: str, seconds: float, reason: str
) -> None:
    """It would refuse every fresh token, or believe those that have expired."""
    async with a_gateway(nats_url, wait=False, clock=lambda: our_clock() + seconds) as gateway:
        await until(lambda: reason in gateway.parts.ready())
        async with (
            gateway.socket(token=token_of(1, "Ann")) as tab,
            plain_http.client() as http,
        ):
            _, (code, _) = await tab.closed_after()
            answer = await http.get(f"http://127.0.0.1:{gateway.port}/readyz")

    assert code == 1013
    assert (answer.status_code, reason in answer.json()["detail"]) == (503, True)


async def test_a_clock_that_is_off_by_no_more_than_the_bound_is_no_trouble(nats_url: str) -> None:
    async with a_gateway(nats_url, clock=lambda: our_clock() + 10) as gateway:
        assert gateway.parts.ready() == []
