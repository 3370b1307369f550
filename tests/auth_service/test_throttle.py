import asyncio

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event

from auth_service.app import AuthParts, assembled, create_app
from auth_service.settings import AuthSettings
from tests.auth_service.people import (
    a_client,
    problem_of,
    publisher_without_a_bus,
    register,
    served,
    sign_in,
    time_passes,
)
from tests.fixtures.tokens import Clock


async def test_the_eleventh_failure_in_a_minute_is_throttled(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    await register(client)

    answers = [await sign_in(client, password=f"guess {n}") for n in range(11)]

    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert problem_of(answers[10]) == (429, "too_many_failures")
    assert 50 <= int(answers[10].headers["Retry-After"]) <= 60
    assert (await sign_in(client)).status_code == 429, "the right one too, or one could guess on"
    assert (await sign_in(client, "ANN@example.com ")).status_code == 429

    await time_passes(parts, clock, 60)

    assert (await sign_in(client)).status_code == 200


async def test_an_account_that_does_not_exist_is_throttled_alike(
    client: httpx2.AsyncClient,
) -> None:
    answers = [await sign_in(client, "nobody@example.com") for _ in range(11)]

    assert [answer.status_code for answer in answers] == [401] * 10 + [429]


async def test_failures_are_counted_over_any_minute_not_from_the_full_one(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    await sign_in(client, "ann@example.com")
    await time_passes(parts, clock, 30)
    for _ in range(9):
        await sign_in(client, "ann@example.com")

    throttled = await sign_in(client, "ann@example.com")
    assert throttled.status_code == 429
    assert 0 < int(throttled.headers["Retry-After"]) <= 30  # less if the sign-ins took seconds

    await time_passes(parts, clock, 31)
    assert (await sign_in(client, "ann@example.com")).status_code == 401
    assert (await sign_in(client, "ann@example.com")).status_code == 429


async def test_being_throttled_does_not_prolong_it(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    for _ in range(10):
        await sign_in(client)
    await time_passes(parts, clock, 30)

    for _ in range(20):
        assert int((await sign_in(client)).headers["Retry-After"]) <= 30


async def test_successful_sign_ins_are_never_throttled(settings: AuthSettings) -> None:
    """Neither more at a time than an account may fail, nor more in all than an address may."""
    few = settings.model_copy(update={"failures_per_account": 3, "failures_per_address": 10})
    async with served(few) as client:
        await register(client)

        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(sign_in(client)) for _ in range(5)]

            assert {task.result().status_code for task in asked} == {200}


async def test_an_address_is_throttled_over_all_accounts(settings: AuthSettings) -> None:
    few = settings.model_copy(update={"failures_per_address": 5})
    async with assembled(few, publisher=publisher_without_a_bus()) as parts:
        app = create_app(parts, registry=CollectorRegistry())
        async with a_client(app) as client, a_client(app, address="192.0.2.2") as elsewhere:
            await register(client)
            answers = [await sign_in(client, f"user-{n}@example.com") for n in range(6)]

            assert [answer.status_code for answer in answers] == [401] * 5 + [429]
            assert (await sign_in(client)).status_code == 429
            assert (await sign_in(elsewhere)).status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [("2001:db8::1", "2001:db8::ffff:2", True), ("2001:db8::1", "2001:db8:0:1::1", False),
     ("::ffff:192.0.2.7", "192.0.2.7", True), ("192.0.2.7", "192.0.2.8", False)],
)  # fmt: skip
async def test_an_ipv6_household_is_one_address(
    settings: AuthSettings, first: str, second: str, shared: bool
) -> None:
    few = settings.model_copy(update={"failures_per_address": 1})
    async with assembled(few, publisher=publisher_without_a_bus()) as parts:
        app = create_app(parts, registry=CollectorRegistry())
        async with a_client(app, address=first) as one, a_client(app, address=second) as other:
            await sign_in(one, "ann@example.com")
            answer = await sign_in(other, "bob@example.com")

    assert answer.status_code == (429 if shared else 401)


async def test_several_processes_count_together_and_under_concurrency(
    settings: AuthSettings,
) -> None:
    publisher = publisher_without_a_bus()
    async with (
        assembled(settings, publisher=publisher) as here,
        assembled(settings, publisher=publisher) as there,
    ):
        apps = [create_app(parts, registry=CollectorRegistry()) for parts in (here, there)]
        async with a_client(apps[0]) as one, a_client(apps[1]) as other:
            await register(one)
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(sign_in((one, other)[n % 2], password=f"guess {n}"))
                    for n in range(20)
                ]
            answers = [task.result().status_code for task in asked]

            assert sorted(answers) == [401] * 10 + [429] * 10
            assert (await sign_in(other)).status_code == 429


async def test_a_right_guess_among_too_many_wrong_ones_is_refused(
    settings: AuthSettings, parts: AuthParts, client: httpx2.AsyncClient
) -> None:
    """The first nine failures pass before the right guess is checked, the tenth meanwhile."""
    await register(client)
    for n in range(9):
        await sign_in(client, password=f"guess {n}")
    slower = settings.model_copy(update={"argon2_memory_kib": 32 * 1024, "argon2_passes": 10})
    async with served(slower) as slow, asyncio.TaskGroup() as group:
        right = group.create_task(sign_in(slow))  # rehashes, and that takes its time
        await asyncio.sleep(0)
        tenth = group.create_task(sign_in(client, password="guess 10"))

    assert tenth.result().status_code == 401
    assert right.result().status_code == 429


async def test_an_address_registers_so_often_and_not_more(
    settings: AuthSettings,
) -> None:
    few = settings.model_copy(update={"registrations_per_address": 3})
    async with assembled(few, publisher=publisher_without_a_bus()) as parts:
        app = create_app(parts, registry=CollectorRegistry())
        async with a_client(app) as client, a_client(app, address="192.0.2.2") as elsewhere:
            answers = [await register(client, f"user-{n}@example.com") for n in range(5)]

            assert [answer.status_code for answer in answers] == [201] * 3 + [429] * 2
            for refused in answers[3:]:
                assert problem_of(refused) == (429, "too_many_registrations")
                assert 50 <= int(refused.headers["Retry-After"]) <= 60
            assert (await register(elsewhere, "user-9@example.com")).status_code == 201
            assert (await sign_in(client, "user-0@example.com")).status_code == 200


async def test_whether_an_email_is_taken_is_told_no_more_often_than_one_may_register(
    settings: AuthSettings,
) -> None:
    few = settings.model_copy(update={"registrations_per_address": 2})
    async with served(few) as client:
        await register(client)
        answers = [await register(client) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [409, 429, 429]


async def test_who_was_refused_may_register_again_when_the_time_is_over(
    settings: AuthSettings, clock: Clock
) -> None:
    few = settings.model_copy(update={"registrations_per_address": 1})
    async with (
        assembled(few, publisher=publisher_without_a_bus(), monotonic=clock) as parts,
        a_client(create_app(parts, registry=CollectorRegistry())) as client,
    ):
        await register(client)
        assert (await register(client, "bob@example.com")).status_code == 429

        await time_passes(parts, clock, 61)

        assert (await register(client, "bob@example.com")).status_code == 201


async def test_several_processes_count_registrations_together(settings: AuthSettings) -> None:
    few = settings.model_copy(update={"registrations_per_address": 5})
    async with served(few) as one, served(few) as other, asyncio.TaskGroup() as group:
        asked = [
            group.create_task(register((one, other)[n % 2], f"user-{n}@example.com"))
            for n in range(12)
        ]

    assert sorted(task.result().status_code for task in asked) == [201] * 5 + [429] * 7


async def test_who_was_refused_once_costs_no_transaction_the_next_time(
    settings: AuthSettings,
) -> None:
    few = settings.model_copy(update={"registrations_per_address": 1, "failures_per_account": 1})
    async with assembled(few, publisher=publisher_without_a_bus()) as parts:
        app = create_app(parts, registry=CollectorRegistry())
        async with a_client(app) as client:
            for _ in range(2):
                await register(client)
                await sign_in(client, password="incorrect horse")
            begun = transactions_of(parts)
            assert (await register(client)).status_code == 429
            assert (await sign_in(client)).status_code == 429

    assert begun == []


def transactions_of(parts: AuthParts) -> list[object]:
    """A list that grows with each transaction that is begun from now on."""
    begun: list[object] = []
    event.listen(parts.sessions.kw["bind"].sync_engine, "begin", begun.append)
    return begun


async def test_a_clock_that_was_put_back_blocks_nobody_for_days(
    client: httpx2.AsyncClient, parts: AuthParts, clock: Clock
) -> None:
    for _ in range(10):
        await sign_in(client)
    await time_passes(parts, clock, -2 * 86_400)

    assert (await sign_in(client)).status_code == 401
