import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

import httpx2
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from auth_service import use_cases
from auth_service.app import AuthParts
from auth_service.passwords import Passwords, hashing_passwords
from auth_service.settings import AuthSettings
from auth_service.tables import UserRow
from auth_service.throttle import Throttle
from hubbub_client.contracts.errors import AppError
from hubbub_client.sql.database import transaction
from tests.auth_service.people import (
    PASSWORD,
    a_signed_in_user,
    register,
    served,
    sign_in,
)


class CountingHasher(PasswordHasher):
    """Argon2, with an eye on how often it is asked."""

    checked = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.checked += 1
        return super().verify(hash, password)


async def test_every_sign_in_that_is_heard_checks_one_password(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    await register(client)
    hasher = CountingHasher(time_cost=1, memory_cost=8, parallelism=1)
    throttle = Throttle(
        seconds=60, failures_per_account=1, failures_per_address=100, registrations_per_address=1
    )
    outcomes = []

    async with hashing_passwords(hasher, threads=1, max_waiting=1, wait_seconds=10) as passwords:
        for email in ["ann@example.com", "nobody@example.com"] * 2:
            with pytest.raises(AppError) as failure:
                await sign_in_as(parts, passwords, throttle, email)
            outcomes.append((failure.value.code, hasher.checked))

    assert outcomes == [
        ("wrong_credentials", 1),
        ("wrong_credentials", 2),
        ("too_many_failures", 2),
        ("too_many_failures", 2),
    ]


async def sign_in_as(
    parts: AuthParts,
    passwords: Passwords,
    throttle: Throttle,
    email: str,
    password: str = "incorrect horse",
) -> None:
    await use_cases.sign_in(
        parts.sessions,
        passwords,
        parts.issuer,
        throttle=throttle,
        refresh_lifetime=timedelta(days=1),
        email=email,
        password=password,
        address="192.0.2.1",
    )


async def quickest(ask: Callable[[], Awaitable[httpx2.Response]], times: int = 8) -> float:
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

    assert 0.1 < unknown / wrong < 10  # a lookup alone takes a fiftieth


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


TYPED = {
    "composed": "caf\u00e9 au lait",
    "decomposed": "cafe\u0301 au lait",
    "full width": "\uff43\uff41\uff46\u00e9\u3000au lait",
}


@pytest.mark.parametrize("registered", TYPED)
async def test_a_password_is_one_whatever_it_was_typed_on(
    client: httpx2.AsyncClient, registered: str
) -> None:
    await register(client, password=TYPED[registered])

    for typed in TYPED.values():
        assert (await sign_in(client, password=typed)).status_code == 200
    assert (await sign_in(client, password="cafe au lait")).status_code == 401


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)
async def test_a_hash_of_a_password_as_it_was_typed_goes_on_working_and_is_replaced(
    client: httpx2.AsyncClient, parts: AuthParts, typed: str
) -> None:
    await register(client)
    as_typed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(typed)
    async with transaction(parts.sessions) as db:
        await db.execute(update(UserRow).values(password_hash=as_typed))

    assert (await sign_in(client, password=typed)).status_code == 200

    for each in TYPED.values():
        assert (await sign_in(client, password=each)).status_code == 200


async def test_an_unknown_user_costs_as_many_checks_as_a_wrong_password_of_any_letters(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    await register(client)
    throttle = Throttle(
        seconds=60, failures_per_account=9, failures_per_address=9, registrations_per_address=1
    )
    counts = []
    for email in ("ann@example.com", "nobody@example.com"):
        hasher = CountingHasher(time_cost=1, memory_cost=8, parallelism=1)
        async with hashing_passwords(
            hasher, threads=1, max_waiting=1, wait_seconds=10
        ) as passwords:
            with pytest.raises(AppError):
                await sign_in_as(parts, passwords, throttle, email, TYPED["decomposed"])
        counts.append(hasher.checked)

    assert counts == [2, 2]


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

    assert answered > 3


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
