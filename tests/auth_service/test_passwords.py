import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx2
from sqlalchemy import select, update

from auth_service.app import AuthParts
from auth_service.settings import AuthSettings
from auth_service.tables import UserRow
from shared.database import transaction
from tests.auth_service.people import (
    PASSWORD,
    a_signed_in_user,
    register,
    served,
    sign_in,
)


async def quickest(ask: Callable[[], Awaitable[httpx2.Response]], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        assert (await ask()).status_code == 401
        seconds.append(time.perf_counter() - started)
    return min(seconds)


async def test_a_wrong_password_and_an_unknown_user_take_as_long(settings: AuthSettings) -> None:
    slower = settings.model_copy(
        update={"argon2_memory_kib": 16 * 1024, "argon2_passes": 4, "failures_per_account": 100}
    )
    async with served(slower) as client:
        await register(client)
        wrong = await quickest(lambda: sign_in(client, password="incorrect horse"))
        unknown = await quickest(lambda: sign_in(client, "nobody@example.com"))

    assert 0.5 < unknown / wrong < 2


async def test_a_hash_with_other_parameters_is_replaced_at_the_next_sign_in(
    settings: AuthSettings, client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    await register(client)
    stronger = settings.model_copy(update={"argon2_passes": 2})

    async with served(stronger) as client_later:
        assert (await sign_in(client_later)).status_code == 200

    async with transaction(parts.sessions) as db:
        stored = (await db.scalars(select(UserRow.password_hash))).one()
    assert stored.startswith("$argon2id$m=8,t=2,".replace("$m", "$v=19$m"))
    assert (await sign_in(client)).status_code == 200


async def test_an_unreadable_hash_lets_nobody_in(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    await register(client)
    async with transaction(parts.sessions) as db:
        await db.execute(update(UserRow).values(password_hash=PASSWORD))

    assert (await sign_in(client)).status_code == 401


async def test_hashing_does_not_hold_up_the_others(settings: AuthSettings) -> None:
    slower = settings.model_copy(update={"argon2_memory_kib": 64 * 1024, "argon2_passes": 6})
    async with served(slower) as client, asyncio.TaskGroup() as group:
        slow = group.create_task(register(client))
        answered = 0
        while not slow.done():
            assert (await client.get("/livez")).status_code == 200
            answered += 1
            await asyncio.sleep(0.005)

    assert answered > 5


async def test_who_would_wait_too_long_for_a_thread_is_told_to_come_again(
    settings: AuthSettings,
) -> None:
    narrow = settings.model_copy(
        update={
            "argon2_memory_kib": 64 * 1024, "argon2_passes": 8,
            "hash_threads": 1, "hash_wait_seconds": 0.01,
        }
    )  # fmt: skip
    async with served(narrow) as client:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(register(client, f"user-{n}@example.com")) for n in range(4)]
        answers = [task.result() for task in asked]

    assert sorted(answer.status_code for answer in answers) == [201, 503, 503, 503]
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert (busy.json()["code"], busy.headers["Retry-After"]) == ("too_busy", "1")


async def test_no_password_and_no_refresh_token_is_in_the_database(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)

    everything = ""
    async with transaction(parts.sessions) as db:
        for table in ("users", "sessions", "refresh_tokens", "sign_in_failures", "outbox"):
            rows = await (await db.connection()).exec_driver_sql(f"SELECT * FROM {table}")
            everything += repr(rows.all())

    assert "ann@example.com" in everything
    for secret in (PASSWORD, tokens["refresh_token"], tokens["access_token"]):
        assert secret not in everything
