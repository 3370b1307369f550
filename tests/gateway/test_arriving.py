"""Being let in: at once where nothing has to be awaited, else in a task; never at others' cost."""

import asyncio
from typing import Any

import pytest

from gateway.channels.options import Namespace
from gateway.protocols.chat import arrival
from gateway.protocols.chat.codec import encode_welcome
from gateway.transport.connection import Connection
from gateway.transport.frames import Frame
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from shared.tokens.claims import SessionId
from shared.tokens.jwk import trusted_key
from shared.tokens.keys import FixedKeys
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.fixtures.tokens import FOREIGN, OUR_KEY, a_token, some_claims
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, now, token_of
from tests.gateway.serving import until

INTERNAL_ERROR = (1011, "internal error")


class SlowIssuer(FixedKeys):
    """Has another key, which it gives when the test says so."""

    def __init__(self) -> None:
        super().__init__([OUR_KEY])
        self.asked = 0
        self.answers = asyncio.Event()

    async def look_again(self) -> None:
        self.asked += 1
        await self.answers.wait()
        super().__init__([OUR_KEY, trusted_key(FOREIGN.public_key())])


def a_token_of_the_other_key(**claims: Any) -> str:
    times = {"iat": now() - 1, "exp": now() + 900}
    kid = trusted_key(FOREIGN.public_key()).kid
    return a_token(some_claims(**(times | claims)), key=FOREIGN, kid=kid)


async def test_who_needs_a_key_that_is_not_known_yet_waits_and_nobody_else_does(
    nats_url: str,
) -> None:
    issuer = SlowIssuer()
    async with (
        a_gateway(nats_url, keys=issuer) as gateway,
        gateway.socket(token=a_token_of_the_other_key(), room=a_room()) as waiting,
        gateway.socket() as by_message,
    ):
        await by_message.send(type="auth", token=a_token_of_the_other_key())
        await until(lambda: issuer.asked == 2)
        async with gateway.tab(1, "Ann", a_room()) as ann:
            assert ann.welcome["type"] == "welcome"
        issuer.answers.set()

        assert (await waiting.get())["type"] == "welcome"
        assert (await by_message.get())["type"] == "welcome"


async def test_who_was_revoked_while_waiting_for_a_key_is_refused(
    nats_url: str, publisher: Publisher
) -> None:
    issuer, session = SlowIssuer(), SessionId(a_room())
    async with (
        a_gateway(nats_url, keys=issuer) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
        gateway.socket(token=a_token_of_the_other_key(sid=session)) as waiting,
    ):
        await until(lambda: issuer.asked == 1)
        for revoked in (session, SessionId("of nobody")):
            message = SessionRevoked(session_id=revoked, user_id=UserId("7"))
            await publisher.publish(
                SESSION_REVOKED_SUBJECT, message.model_dump_json().encode(), message_id=message.id
            )
        await ann.say("so that the revocation has come")
        await until(lambda: gateway.metric("hubbub_stream_lag", stream="CTL") == 0)
        issuer.answers.set()

        assert await waiting.closed() == (1008, "Invalid token")


async def test_who_waits_for_a_key_waits_no_longer_than_for_a_token(nats_url: str) -> None:
    issuer = SlowIssuer()
    async with (
        a_gateway(nats_url, keys=issuer, settings={"auth_seconds": 0.3}) as gateway,
        gateway.socket(token=a_token_of_the_other_key(), room=a_room()) as in_the_query,
        gateway.socket(room=a_room()) as by_message,
    ):
        await by_message.send(type="auth", token=a_token_of_the_other_key())
        for waiting in (in_the_query, by_message):
            assert await waiting.closed() == (1008, "Invalid token")
        issuer.answers.set()


async def test_who_waits_for_a_key_until_the_gateway_drains_comes_too_late(nats_url: str) -> None:
    issuer = SlowIssuer()
    async with (
        a_gateway(nats_url, keys=issuer) as gateway,
        gateway.socket(token=a_token_of_the_other_key()) as waiting,
        asyncio.TaskGroup() as group,
    ):
        await until(lambda: issuer.asked == 1)
        closing = group.create_task(waiting.closed())
        draining = asyncio.ensure_future(gateway.parts.drain())
        assert await closing == (1012, "restarting")
        issuer.answers.set()
        await draining


@pytest.mark.parametrize("history", ["", "5"])
@pytest.mark.parametrize("presence", [True, False])
async def test_a_failure_while_somebody_arrives_costs_that_connection_and_no_other(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, history: str, *, presence: bool
) -> None:
    """Whether it happens in the handshake, as the own entry comes, or in a task."""
    cursed = a_room()

    def fail_there(*, room: str, **told: Any) -> Frame:
        assert room != cursed, "a bug"
        return encode_welcome(room=room, **told)

    monkeypatch.setattr(arrival, "encode_welcome", fail_there)
    chat = Namespace(presence=presence, join_leave=presence, history=True)
    async with (
        a_gateway(nats_url, settings={"namespaces": {"chat": chat}}) as gateway,
        gateway.tab(1, "Ann", a_room()) as ann,
    ):
        for _ in range(2):  # the second time the entry is there from the start
            async with gateway.socket(
                token=token_of(2, "Ben"), room=cursed, history=history
            ) as ben:
                assert await ben.closed() == INTERNAL_ERROR
        async with gateway.tab(3, "Cem", a_room()) as cem:
            assert cem.welcome["count"] == 1
        assert await ann.so_far() == []
        await until(lambda: gateway.parts.manager.connection_count() == 1)


async def test_whoever_misses_nothing_but_what_is_in_memory_is_no_work_of_the_hub(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = Connection.start

    def note(self: Connection, work: Any) -> None:
        started.append(work.__qualname__)
        start(self, work)

    monkeypatch.setattr(Connection, "start", note)
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann:
        offset, epoch = ann.welcome["offset"], ann.welcome["epoch"]
        async with gateway.tab(1, "Ann", room, since=offset, epoch=epoch) as again:
            assert again.welcome["count"] == 1
        await ann.say("one")
        async with gateway.tab(1, "Ann", room, since=offset, epoch=epoch) as behind:
            assert (await behind.get())["body"] == "one"
        assert started == []
        async with gateway.tab(1, "Ann", room, history=1) as new:
            assert (await new.get())["body"] == "one"
    assert [name for name in started if "Arrival" in name] == ["Arrival._run_to_live"]


async def test_of_many_who_arrive_together_each_is_told_of_all_others_once(
    gateway: RunningGateway,
) -> None:
    room, number = a_room(), 30

    async def arrive(user_id: int) -> set[int]:
        async with gateway.tab(user_id, f"User {user_id}", room) as tab:
            known = [user["user_id"] for user in tab.welcome["users"]]
            assert tab.welcome["count"] == len(known)
            while len(known) < number:
                joined = await tab.until("user_joined")
                known.append(joined["user_id"])
                assert joined["count"] == len(known)
            everybody.append(user_id)
            await until(lambda: len(everybody) == number)
            assert [m for m in await tab.so_far() if m["type"] == "user_joined"] == []
        assert len(known) == len(set(known))
        return set(known)

    everybody: list[int] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(arrive(user_id)) for user_id in range(1, number + 1)]
    assert all(task.result() == set(range(1, number + 1)) for task in tasks)
