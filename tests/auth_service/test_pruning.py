import asyncio
from datetime import UTC, datetime, timedelta

import httpx2
from sqlalchemy import select, update

from auth_service import use_cases
from auth_service.app import AuthParts, prune_for_ever
from auth_service.settings import AuthSettings
from auth_service.tables import FailuresRow, SessionRow
from hubbub_client.sql.database import transaction
from shared.runtime.process import running
from tests.auth_service.people import (
    a_signed_in_user,
    me,
    sign_in,
    time_passes,
)
from tests.fixtures.tokens import Clock
from tests.fixtures.waiting import eventually


async def test_what_has_been_forgotten_is_deleted(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    await a_signed_in_user(client)
    await sign_in(client, "nobody@example.com")
    await time_passes(parts, clock, 61)
    await sign_in(client, "somebody@example.com")
    async with transaction(parts.sessions) as db:
        old = datetime.now(UTC) - timedelta(days=2)
        await db.execute(update(SessionRow).values(expires_at=old))
    tokens = (await sign_in(client)).json()

    async with transaction(parts.sessions) as db:
        more = await use_cases.prune(db, throttle_seconds=60, max_token_seconds=86_400)

    assert not more
    async with transaction(parts.sessions) as db:
        [session] = await db.scalars(select(SessionRow))
        assert len(list(await db.scalars(select(FailuresRow)))) == 2  # the account, the address
    assert session.expires_at > datetime.now(UTC)
    assert (await me(client, tokens["access_token"])).status_code == 200


async def test_nothing_is_deleted_while_our_clock_is_not_to_be_believed(
    client: httpx2.AsyncClient, parts: AuthParts, settings: AuthSettings
) -> None:
    await a_signed_in_user(client)
    async with transaction(parts.sessions) as db:
        old = datetime.now(UTC) - timedelta(days=2)
        await db.execute(update(SessionRow).values(expires_at=old))
    asked, is_right = 0, False

    async def may_prune() -> bool:
        nonlocal asked
        asked += 1
        return is_right

    often = settings.model_copy(update={"prune_interval_seconds": 0.001})
    async with running(lambda: prune_for_ever(parts.sessions, often, may_prune=may_prune)):
        await eventually(lambda: asked > 5)
        assert await sessions_kept(parts) == 1

        is_right = True
        while await sessions_kept(parts):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def sessions_kept(parts: AuthParts) -> int:
    async with transaction(parts.sessions, read_only=True) as db:
        return len(list(await db.scalars(select(SessionRow))))


async def test_no_more_failures_are_kept_than_matter(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    for _ in range(13):
        await sign_in(client)
        await time_passes(parts, clock, 30)

    async with transaction(parts.sessions) as db:
        account = await db.scalar(select(FailuresRow).where(FailuresRow.key.like("account:%")))
    assert account is not None
    assert len(account.failed_at) == 10
