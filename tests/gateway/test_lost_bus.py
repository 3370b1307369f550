"""A gateway on a bus that is new, or that lost what it held."""

from uuid import uuid4

from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from shared.tokens.claims import SessionId
from shared.tokens.revocations import (
    REVOCATIONS_COMPLETE_SUBJECT,
    SESSION_REVOKED_SUBJECT,
    CompletePosition,
    RevocationsComplete,
    SessionRevoked,
)
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import a_gateway, a_room, token_of
from tests.gateway.serving import until
from tests.shared.jetstream.builders import js_api

WAITS = ["the auth service has yet to say which sessions are over"]
HAS_TO_LOOK = [
    "the auth service has yet to compare the bus with its database: it may have been restored"
    " from a backup"
]
OVER = SessionId("s-over")


async def tell(
    publisher: Publisher, subject: str, message: SessionRevoked | RevocationsComplete
) -> None:
    payload = message.model_dump_json().encode()
    await publisher.publish(subject, payload, message_id=str(uuid4()))


async def test_nobody_is_let_in_before_the_auth_service_has_said_that_the_revocations_are_whole(
    nats_server: StartServer,
) -> None:
    url = nats_server().url
    async with connect_bus(url, name="auth") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        settings = {"await_auth_service": True}
        async with a_gateway(url, wait=False, settings=settings) as gateway:
            await until(lambda: gateway.parts.ready() == WAITS)
            await tell(
                publisher,
                SESSION_REVOKED_SUBJECT,
                SessionRevoked(session_id=OVER, user_id=UserId("1")),
            )
            for epoch in ("another", (await StreamReader(bus, "CTL").state()).epoch):
                assert gateway.parts.ready() == WAITS
                async with gateway.socket(token=token_of(2, "Bob"), room=a_room()) as early:
                    assert (await early.closed())[0] == 1013
                await tell(
                    publisher, REVOCATIONS_COMPLETE_SUBJECT, RevocationsComplete(epoch=epoch)
                )
            await until(lambda: not gateway.parts.ready())

            async with gateway.socket(token=token_of(1, "Ann", sid=OVER), room=a_room()) as ann:
                assert await ann.closed() == (1008, "Invalid token")
            async with gateway.tab(2, "Bob", a_room()) as bob:
                assert bob.welcome["type"] == "welcome"

            await js_api(bus, "STREAM.DELETE.CTL")
            await bootstrap(bus)
            await tell(
                publisher,
                SESSION_REVOKED_SUBJECT,
                SessionRevoked(session_id=SessionId("s-2"), user_id=UserId("1")),
            )
            await until(lambda: gateway.parts.ready() == WAITS)


async def test_an_old_word_lets_nobody_in_before_the_auth_service_beside_it_has_looked(
    nats_server: StartServer,
) -> None:
    """As on a bus that was restored from a backup."""
    url = nats_server().url
    places: list[CompletePosition] = []
    async with connect_bus(url, name="auth") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        epoch = (await StreamReader(bus, "CTL").state()).epoch
        await tell(publisher, REVOCATIONS_COMPLETE_SUBJECT, RevocationsComplete(epoch=epoch))
        async with a_gateway(
            url,
            wait=False,
            settings={"await_auth_service": True},
            complete_at=lambda: places[-1] if places else None,
        ) as gateway:
            token = token_of(1, "Ann", sid=OVER)
            for place in (CompletePosition("another", 1), CompletePosition(epoch, 2)):
                await until(lambda: gateway.parts.ready() == HAS_TO_LOOK)
                async with gateway.socket(token=token, room=a_room()) as early:
                    assert (await early.closed())[0] == 1013
                places.append(place)
            assert gateway.parts.ready() == HAS_TO_LOOK
            over = SessionRevoked(session_id=OVER, user_id=UserId("1"))
            await tell(publisher, SESSION_REVOKED_SUBJECT, over)
            await until(lambda: not gateway.parts.ready())

            async with gateway.socket(token=token, room=a_room()) as ann:
                assert await ann.closed() == (1008, "Invalid token")


async def test_where_there_is_no_auth_service_nobody_waits_for_its_word(
    nats_server: StartServer,
) -> None:
    settings = {"token_issuer": "https://idp.example", "jwks_url": "https://idp.example/keys"}
    async with a_gateway(nats_server().url, settings=settings) as gateway:
        assert gateway.parts.ready() == []
