import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy import select, update

from auth_service.app import AuthParts
from auth_service.tables import RefreshTokenRow, SessionRow
from hubbub_client.contracts.ids import UserId
from hubbub_client.sql.database import transaction
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import SessionId
from shared.tokens.configured import own_issuer
from shared.tokens.revocations import Revocations
from tests.auth_service.people import (
    a_signed_in_user,
    bearer,
    me,
    post_json,
    problem_of,
    refresh,
    revocations,
    session_of,
    sign_in,
    sign_out,
)
from tests.fixtures.tokens import a_foreign_token, a_token, some_claims

INVALID_REFRESH_TOKEN = (401, "invalid_refresh_token")
INVALID_TOKEN = (401, "invalid_token")


async def test_refreshing_answers_a_new_pair_of_the_same_session(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    first = await a_signed_in_user(client)

    answer = await refresh(client, first["refresh_token"])

    second = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert session_of(second["access_token"]) == session_of(first["access_token"])
    for pair in (first, second):
        assert (await me(client, pair["access_token"])).status_code == 200
    assert await revocations(parts) == []


async def test_a_refresh_token_used_twice_ends_the_whole_family(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    first = await a_signed_in_user(client)
    other_session = (await sign_in(client)).json()
    second = (await refresh(client, first["refresh_token"])).json()
    third = (await refresh(client, second["refresh_token"])).json()

    reused = await refresh(client, first["refresh_token"])

    assert problem_of(reused) == INVALID_REFRESH_TOKEN
    assert problem_of(await refresh(client, third["refresh_token"])) == INVALID_REFRESH_TOKEN
    for pair in (first, second, third):
        assert problem_of(await me(client, pair["access_token"])) == INVALID_TOKEN
        assert problem_of(await sign_out(client, pair["access_token"])) == INVALID_TOKEN
    [revoked] = await revocations(parts)
    assert revoked.session_id == session_of(first["access_token"])
    assert (await me(client, other_session["access_token"])).status_code == 200
    assert (await refresh(client, other_session["refresh_token"])).status_code == 200


async def test_of_several_who_use_a_refresh_token_at_once_exactly_one_wins(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    for _ in range(5):
        email = f"user-{_}@example.com"
        tokens = await a_signed_in_user(client, email)

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(refresh(client, tokens["refresh_token"])) for _ in range(6)]

        answers = sorted(task.result().status_code for task in asked)
        assert answers == [200] + [401] * 5
        assert problem_of(await me(client, tokens["access_token"])) == INVALID_TOKEN
    assert len(await revocations(parts)) == 5


async def test_a_refresh_token_that_expired_is_refused_and_ends_nothing(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)
    async with transaction(parts.sessions) as db:
        await db.execute(update(RefreshTokenRow).values(expires_at=datetime.now(UTC)))

    assert problem_of(await refresh(client, tokens["refresh_token"])) == INVALID_REFRESH_TOKEN

    assert (await me(client, tokens["access_token"])).status_code == 200
    assert await revocations(parts) == []


async def test_a_clock_that_is_ahead_for_a_while_uses_up_no_refresh_token(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)
    now = datetime.now(UTC)
    for expires_at, status in ((now, 401), (now + timedelta(days=30), 200)):
        async with transaction(parts.sessions) as db:
            await db.execute(update(RefreshTokenRow).values(expires_at=expires_at))
        assert (await refresh(client, tokens["refresh_token"])).status_code == status


async def test_refreshing_prolongs_the_session(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)
    async with transaction(parts.sessions) as db:
        soon = datetime.now(UTC) + timedelta(seconds=60)
        await db.execute(update(SessionRow).values(expires_at=soon))

    await refresh(client, tokens["refresh_token"])

    async with transaction(parts.sessions) as db:
        [session] = await db.scalars(select(SessionRow))
        unused = select(RefreshTokenRow).where(RefreshTokenRow.used_at.is_(None))
        [token] = await db.scalars(unused)
    assert session.expires_at == token.expires_at > soon + timedelta(days=29)


@pytest.mark.parametrize("token", ["", "x", "\0", "'; DROP TABLE sessions; --", "é" * 200])
async def test_an_unknown_refresh_token_is_refused(client: httpx2.AsyncClient, token: str) -> None:
    assert problem_of(await refresh(client, token)) == INVALID_REFRESH_TOKEN


@pytest.mark.parametrize("token", [None, 7, ["x"], "x" * 201, "\ud800"])
async def test_what_cannot_be_a_refresh_token_is_a_422(
    client: httpx2.AsyncClient, token: object
) -> None:
    body = json.dumps({"refresh_token": token}).encode()
    answer = await post_json(client, "/auth/token/refresh", body)

    assert problem_of(answer) == (422, "invalid")


async def test_signing_out_ends_the_session_and_tells_everybody(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    first = await a_signed_in_user(client)
    second = (await refresh(client, first["refresh_token"])).json()
    other_session = (await sign_in(client)).json()

    answer = await sign_out(client, first["access_token"])

    assert (answer.status_code, answer.content) == (204, b"")
    for pair in (first, second):
        assert problem_of(await me(client, pair["access_token"])) == INVALID_TOKEN
        assert problem_of(await refresh(client, pair["refresh_token"])) == INVALID_REFRESH_TOKEN
    assert (await me(client, other_session["access_token"])).status_code == 200
    [revoked] = await revocations(parts)
    everywhere = Revocations(max_token_seconds=86_400)
    everywhere.apply(revoked.model_dump_json().encode())
    issuer = own_issuer(parts.keys, name="hubbub", audience="hubbub", max_token_seconds=86_400)
    verifier = TokenVerifier([issuer])
    assert everywhere.is_revoked(await verifier.verify(second["access_token"]))
    assert not everywhere.is_revoked(await verifier.verify(other_session["access_token"]))


async def test_signing_out_repeatedly_tells_everybody_once(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(sign_out(client, tokens["access_token"])) for _ in range(6)]
    answers = sorted(task.result().status_code for task in asked)

    # Whoever comes before the outbox knows that everybody was told has a part in telling.
    assert set(answers) <= {204, 401}
    assert 204 in answers
    assert len(await revocations(parts)) == 1


async def test_signing_out_while_refreshing_leaves_no_living_token(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    for n in range(5):
        tokens = await a_signed_in_user(client, f"user-{n}@example.com")

        async with asyncio.TaskGroup() as group:
            group.create_task(sign_out(client, tokens["access_token"]))
            refreshed = group.create_task(refresh(client, tokens["refresh_token"]))

        if refreshed.result().status_code == 200:
            newer = refreshed.result().json()
            assert problem_of(await me(client, newer["access_token"])) == INVALID_TOKEN
            assert (await refresh(client, newer["refresh_token"])).status_code == 401


@pytest.mark.parametrize("path", ["/auth/me", "/auth/logout"])
@pytest.mark.parametrize(
    "headers",
    [{}, bearer("nonsense"), bearer(a_token(some_claims())), bearer(a_foreign_token(some_claims())),
     bearer("x" * 20_000), {"Authorization": "Basic YTpi"}],
)  # fmt: skip
async def test_no_or_a_bad_token_is_a_401(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    method = "GET" if path == "/auth/me" else "POST"

    answer = await client.request(method, path, headers=headers)

    assert problem_of(answer) == INVALID_TOKEN
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_of_a_session_that_we_do_not_know_is_a_401(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)
    session_id = session_of(tokens["access_token"])
    number = (await me(client, tokens["access_token"])).json()["id"]

    for token in (
        parts.issuer.issue(UserId(str(number)), "Ann", SessionId("0" * 32)),
        parts.issuer.issue(UserId(str(number + 1)), "Ann", session_id),
        parts.issuer.issue(UserId("ann"), "Ann", session_id),
        parts.issuer.issue(UserId(f"0{number}"), "Ann", session_id),
        parts.issuer.issue(UserId("9" * 128), "Ann", session_id),
    ):
        assert problem_of(await me(client, token)) == INVALID_TOKEN
        assert problem_of(await sign_out(client, token)) == INVALID_TOKEN
