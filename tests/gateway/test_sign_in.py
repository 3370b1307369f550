"""Who is let in, and for how long."""

import re
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from gateway.channels.registry import for_each
from gateway.session.session import Session
from hubbub_client.contracts.ids import UserId
from shared.tokens.jwk import read_jwks
from shared.tokens.keys import FixedKeys
from tests.fixtures.issuers import an_issuer, jwk, jwks, rsa_key, signed
from tests.fixtures.tokens import (
    FOREIGN,
    OUR_KEY,
    SECRET,
    a_crafted_token,
    a_foreign_token,
    a_token,
    some_claims,
)
from tests.gateway.chatting import RunningGateway, Tab, a_gateway, a_room, now, token_of

INVALID_TOKEN = (1008, "Invalid token")


def evil_tokens() -> dict[str, str]:
    times = {"iat": now() - 1, "exp": now() + 900}
    claims = some_claims(**times)
    return {
        "garbage": "x",
        "empty parts": "..",
        "too long": "a.b." + "c" * 7000,
        "expired": token_of(1, "Ann", seconds=-1),
        "another key": a_token(claims, key=FOREIGN),
        "an unknown kid": a_token(claims, kid="nobody"),
        "alg none": a_crafted_token({"alg": "none"}, claims),
        "alg none, our kid": a_crafted_token({"alg": "none", "kid": OUR_KEY.kid}, claims),
        "our public key as a secret": a_crafted_token(
            {"alg": "HS256", "kid": OUR_KEY.kid}, claims,
            secret=OUR_KEY.material,
        ),
        "another issuer": token_of(1, "Ann", iss="evil"),
        "another audience": token_of(1, "Ann", aud="evil"),
        "no subject": a_token(some_claims(sub=None, **times)),
        "a subject that is no user id": token_of(1, "Ann", sub="a n"),
        "a lifetime too long": token_of(1, "Ann", seconds=10**6),
        "not yet": token_of(1, "Ann", iat=now() + 600, exp=now() + 900),
    }  # fmt: skip


@pytest.mark.parametrize("kind", evil_tokens())
async def test_a_bad_token_is_told_after_the_upgrade(
    gateway: RunningGateway, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = evil_tokens()[kind]
    async with gateway.socket(token=token) as tab:
        assert await tab.closed() == INVALID_TOKEN
    async with gateway.socket() as tab:
        await tab.send(type="auth", token=token)
        assert await tab.closed() == INVALID_TOKEN

    logged = capsys.readouterr()
    assert "Traceback" not in logged.out + logged.err
    assert token not in logged.out + logged.err or len(token) < 3


async def test_a_token_in_the_subprotocol_is_answered_with_bearer(standing: RunningGateway) -> None:
    async with standing.socket(subprotocols=["bearer", token_of(1, "Ann")], room=a_room()) as tab:
        assert tab.socket.subprotocol == "bearer"
        assert (await tab.get())["type"] == "welcome"


async def test_of_two_tokens_the_query_wins(standing: RunningGateway) -> None:
    offered = ["bearer", token_of(2, "Ben")]
    async with standing.socket(subprotocols=offered, token=token_of(1, "Ann")) as tab:
        assert tab.socket.subprotocol == "bearer"
        assert (await tab.get())["name"] == "Ann"
    async with standing.socket(subprotocols=["bearer", token_of(2, "Ben")], token="bad") as tab:
        assert await tab.closed() == INVALID_TOKEN


async def test_a_token_may_come_as_the_first_message(standing: RunningGateway) -> None:
    async with standing.socket(room=a_room()) as tab:
        await tab.send(type="auth", token=token_of(1, "Ann"))
        assert (await tab.get())["type"] == "welcome"


@pytest.mark.parametrize("first", ["{", '{"type":"ping"}', '{"type":"auth"}', '{"type":"message"}'])
async def test_any_other_first_message_is_no_token(standing: RunningGateway, first: str) -> None:
    async with standing.socket() as tab:
        await tab.socket.send(first)
        assert await tab.closed() == INVALID_TOKEN


async def test_who_shows_no_token_in_time_is_sent_away(nats_url: str) -> None:
    async with (
        a_gateway(nats_url, settings={"auth_seconds": 0.3}) as gateway,
        gateway.socket() as tab,
    ):
        assert await tab.closed() == INVALID_TOKEN


async def test_a_token_of_a_foreign_issuer_needs_a_subject_and_an_end_only(nats_url: str) -> None:
    secret = "a secret of theirs that is long enough"
    async with a_gateway(nats_url, hmac_secret=secret) as gateway:
        token = a_foreign_token({"sub": "7", "exp": now() + 60}, secret=secret)
        async with gateway.socket(token=token, room=a_room()) as tab:
            welcome = await tab.get()
            assert (welcome["user_id"], welcome["name"]) == (7, "User 7")
        wrong = a_foreign_token({"sub": "7", "exp": now() + 60}, secret="another")
        async with gateway.socket(token=wrong) as tab:
            assert await tab.closed() == INVALID_TOKEN


async def test_users_of_a_provider_are_let_in_by_its_keys(nats_url: str) -> None:
    keys = FixedKeys(read_jwks(jwks(jwk(rsa_key(), "k")), algorithms=["RS256"]))
    provider = an_issuer(keys, issuer="https://idp.example/", audience="chat")
    claims = {"iss": "https://idp.example/", "aud": ["chat"], "exp": now() + 60, "sub": "auth0|5f"}
    async with a_gateway(nats_url, issuers=[provider]) as gateway:
        token = signed(claims, rsa_key(), "RS256", kid="k")
        async with gateway.socket(token=token, room=a_room()) as tab:
            welcome = await tab.get()
            assert (welcome["user_id"], welcome["name"]) == ("auth0|5f", "User auth0|5f")
        forged = signed(claims, rsa_key("another"), "RS256", kid="k")
        async with gateway.socket(token=forged) as tab:
            assert await tab.closed() == INVALID_TOKEN


@pytest.mark.parametrize("nobody", [{}, {"sub": ""}], ids=str)
async def test_nobody_in_particular_is_let_into_no_room(
    nats_url: str, nobody: dict[str, str]
) -> None:
    async with a_gateway(nats_url, hmac_secret=SECRET) as gateway:
        token = a_foreign_token({"exp": now() + 60} | nobody)
        async with gateway.socket(token=token) as tab:
            assert await tab.closed() == INVALID_TOKEN


async def test_the_log_says_why_a_token_was_refused_and_nothing_of_it(
    gateway: RunningGateway,
) -> None:
    token = token_of(1, "Ann", seconds=-60)

    with capture_logs() as logs:
        async with gateway.socket(token=token) as tab:
            assert await tab.closed() == INVALID_TOKEN

    [line] = [line for line in logs if line["event"] == "token_refused"]
    assert line["log_level"] == "info"
    assert re.fullmatch(r"the token expired \d+ s ago", line["reason"])
    assert not any(part in repr(logs) for part in token.split("."))


@pytest.mark.parametrize("room", ["a b", "ä", "a\x7f", "x" * 251, "#1", "$x", "@x"])
async def test_a_room_that_cannot_be_is_refused(standing: RunningGateway, room: str) -> None:
    async with standing.socket(token=token_of(1, "Ann"), room=room) as tab:
        assert await tab.closed() == (1008, "Invalid room")


@pytest.mark.parametrize(
    ("query", "close"),
    [
        ("token=%00", INVALID_TOKEN),
        ("token=%ff%fe", INVALID_TOKEN),
        ("token=a.b.c&token=x", INVALID_TOKEN),
        ("token=x&room=%ff", (1008, "Invalid room")),
        ("token=x&room=%00", (1008, "Invalid room")),
        ("&&==&;%&token", None),
        ("since=%f0&history=%00&epoch=%ff", None),
    ],
)
async def test_an_odd_query_is_judged_like_any_other(
    standing: RunningGateway, query: str, close: tuple[int, str] | None
) -> None:
    async with connect(f"ws://127.0.0.1:{standing.port}/ws/chat?{query}") as socket:
        tab = Tab(socket)
        if close is not None:
            assert await tab.closed() == close
        else:
            await tab.send(type="auth", token=token_of(1, "Ann"))
            assert (await tab.get())["type"] == "welcome"


async def test_at_the_end_of_its_token_a_connection_ends(gateway: RunningGateway) -> None:
    async with gateway.socket(token=token_of(1, "Ann", seconds=2), room=a_room()) as tab:
        assert (await tab.get())["type"] == "welcome"
        assert await tab.closed() == (1008, "Token expired")


async def test_another_token_of_the_same_user_prolongs_the_connection(
    gateway: RunningGateway,
) -> None:
    room = a_room()
    async with gateway.socket(token=token_of(1, "Ann", seconds=2), room=room) as tab:
        await tab.send(type="auth", token=token_of(1, "Ann"))
        await tab.until("welcome")
        async with gateway.socket(token=token_of(1, "Ann", seconds=2), room=room) as not_prolonged:
            assert await not_prolonged.closed() == (1008, "Token expired")
        assert await tab.so_far() == []


@pytest.mark.parametrize("kind", ["another user", "expired", "garbage"])
async def test_a_token_that_does_not_prolong_leaves_the_old_one_in_place(
    gateway: RunningGateway, kind: str
) -> None:
    token = {"another user": token_of(2, "Ben")}.get(kind) or evil_tokens()[kind]
    async with gateway.tab(1, "Ann", a_room()) as tab:
        await tab.send(type="auth", token=token, id="a")
        error = await tab.get()
        assert (error["type"], error["code"], error["id"]) == ("error", "invalid_token", "a")
        await tab.send(type="message", body="hi")
        assert (await tab.until("message"))["user_id"] == 1


async def test_who_is_here_ends_by_the_clock_as_it_is_when_a_jump_counts(
    gateway: RunningGateway,
) -> None:
    room = a_room()
    async with gateway.tab(1, "Ann", room) as ann, gateway.tab(2, "Ben", room) as ben:
        members = {member.user_id: member for member in gateway.parts.manager.connections()}
        for user_id, lives_on in ((1, 60), (2, -60)):
            member = members[UserId(str(user_id))]
            assert isinstance(member, Session)
            member.claims = replace(member.claims, expires_at=now() + lives_on)

        for_each(members.values(), lambda member: member.end_with_token())

        assert await ben.closed() == (1008, "Token expired")
        await ann.pong()
