import asyncio
import unicodedata
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from auth_service import repository
from auth_service.app import AuthParts
from auth_service.tables import UserRow
from auth_service.use_cases import email_key
from hubbub_client.sql.database import transaction
from tests.auth_service.people import (
    PASSWORD,
    a_signed_in_user,
    me,
    post_json,
    problem_of,
    register,
    sign_in,
)


async def test_who_registers_can_sign_in_and_is_told_who_they_are(
    client: httpx2.AsyncClient,
) -> None:
    answer = await register(client, "Ann@Example.com", name="  Ann ")

    assert answer.status_code == 201
    user = answer.json()
    assert user == {"id": user["id"], "email": "Ann@Example.com", "name": "Ann"}
    tokens = (await sign_in(client, "ann@example.com")).json()
    assert (await me(client, tokens["access_token"])).json() == user


async def test_an_email_is_taken_in_any_case(client: httpx2.AsyncClient) -> None:
    await register(client, "ann@example.com")

    for email in ("ann@example.com", "ANN@example.COM", " Ann@Example.Com "):
        assert problem_of(await register(client, email)) == (409, "email_taken")


@pytest.mark.parametrize(
    ("registered", "typed"),
    [
        ("ΐ@example.com", "Ϊ́@example.com"),
        ("\u0390@example.com", "\u0399\u0308\u0301@example.com"),
        ("straße@example.com", "STRASSE@example.com"),
        ("caf\u00e9@example.com", "CAFE\u0301@example.com"),
        ("ὈΔΥΣΣΕΎΣ@example.com", "ὀδυσσεύς@example.com"),
        ("\u1fb3@example.com", "\u0391\u0345@example.com"),
    ],
    ids=ascii,
)
async def test_an_email_is_one_however_its_letters_are_written(
    client: httpx2.AsyncClient, registered: str, typed: str
) -> None:
    for one, other in ((registered, typed), (f"x{typed}", f"x{registered}")):
        assert (await register(client, one)).status_code == 201
        assert problem_of(await register(client, other)) == (409, "email_taken")
        assert (await sign_in(client, other)).status_code == 200


@given(st.text())
def test_a_key_is_the_key_of_all_spellings_and_of_itself(email: str) -> None:
    key = email_key(email)

    for spelling in (key, *(unicodedata.normalize(form, email) for form in ("NFC", "NFD"))):
        assert email_key(spelling) == key


async def test_of_two_accounts_that_fell_together_each_is_found_by_its_own_spelling(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    older, younger = "\u0390@example.com", "\u03aa\u0301@example.com"
    await register(client, older)
    await register(client, "other@example.com", password="battery staple")
    async with transaction(parts.sessions) as db:
        other = await repository.find_user(db, "other@example.com")
        assert other is not None
        other.email, other.email_key = younger, "\u03ca\u0301@example.com"  # as it was once

    assert (await sign_in(client, older)).status_code == 200
    assert (await sign_in(client, younger, "battery staple")).status_code == 200
    assert problem_of(await register(client, younger)) == (409, "email_taken")


async def test_of_many_who_register_one_email_at_once_one_succeeds(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(register(client, f"{'aA'[n % 2]}nn@example.com"))
                 for n in range(8)]  # fmt: skip

    assert sorted(task.result().status_code for task in asked) == [201] + [409] * 7
    async with transaction(parts.sessions) as db:
        assert len(list(await db.scalars(select(UserRow)))) == 1


async def test_users_are_not_mixed_up(client: httpx2.AsyncClient) -> None:
    ann = await a_signed_in_user(client, "ann@example.com")
    bob = await a_signed_in_user(client, "bob@example.com")

    assert (await me(client, ann["access_token"])).json()["email"] == "ann@example.com"
    assert (await me(client, bob["access_token"])).json()["email"] == "bob@example.com"


@pytest.mark.parametrize(
    "changes",
    [
        {"email": ""}, {"email": "ann"}, {"email": "a@b@c"}, {"email": "a b@c"}, {"email": "@c"},
        {"email": "a\0@c"}, {"email": "a@\x7f"}, {"email": f"{'a' * 250}@b.cd"}, {"email": None},
        {"email": 7}, {"email": "a\ud800@c"},
        {"name": ""}, {"name": "  "}, {"name": "x" * 65}, {"name": "A\0nn"}, {"name": "A\nnn"},
        {"name": "\u202eAnn"}, {"name": "\ud83d"}, {"name": ["Ann"]}, {"name": None},
        {"password": "seven77"}, {"password": "x" * 201}, {"password": 12345678},
        {"password": "pass\udfffword"}, {"password": "e\u0301" * 4},
    ],
    ids=lambda changes: ascii(changes)[:40],
)  # fmt: skip
async def test_a_body_that_does_not_fit_is_a_422(
    client: httpx2.AsyncClient, changes: dict[str, Any]
) -> None:
    answer = await register(client, **({"email": "ann@example.com"} | changes))

    assert problem_of(answer) == (422, "invalid")
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 64}, {"name": "'; DROP TABLE users; --"}, {"name": "Zoë 🦊 ½"},
        {"email": "o'brien+\"tag\"@example.com"}, {"email": "ünï@exämple.com"},
        {"password": "'; DROP TABLE users; --"}, {"password": "12345678"}, {"password": "é" * 200},
        {"password": "nul \0 within"},
    ],
    ids=lambda changes: ascii(changes)[:40],
)  # fmt: skip
async def test_odd_text_that_fits_is_kept_as_it_is(
    client: httpx2.AsyncClient, changes: dict[str, Any]
) -> None:
    wanted = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD} | changes

    assert (await register(client, **wanted)).status_code == 201

    tokens = (await sign_in(client, wanted["email"], wanted["password"])).json()
    user = (await me(client, tokens["access_token"])).json()
    assert (user["email"], user["name"]) == (wanted["email"], wanted["name"])


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 422), (b"[]", 422), (b"\xff\xfe", 422), (b"[" * 60_000, 422), (b"x" * 70_000, 413)],
    ids=lambda value: ascii(value)[:12],
)
async def test_a_body_that_is_not_even_json_or_too_long_is_refused(
    client: httpx2.AsyncClient, body: bytes, status: int
) -> None:
    for path in ("/auth/register", "/auth/token/refresh"):
        assert problem_of(await post_json(client, path, body))[0] == status


async def test_ensuring_a_user_makes_them_once_and_then_leaves_them_as_they_are(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    assert await parts.ensure_user(email="ada@example.com", name="Ada", password="hubbub-demo")
    assert not await parts.ensure_user(email="Ada@example.com", name="Eve", password="other-words")
    assert await parts.ensure_user(email="ada@example.com", name="Eve", password="hubbub-demo")

    assert (await sign_in(client, "ada@example.com", "hubbub-demo")).status_code == 200
    assert (await sign_in(client, "ada@example.com", "other-words")).status_code == 401


async def test_a_user_is_deleted_with_all_sessions_by_the_right_password_only(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    await parts.ensure_user(email="ada@example.com", name="Ada", password="hubbub-demo")
    token = (await sign_in(client, "ada@example.com", "hubbub-demo")).json()["access_token"]

    await parts.delete_user(email="ada@example.com", password="other-words")
    assert (await me(client, token)).status_code == 200

    await parts.delete_user(email="ada@example.com", password="hubbub-demo")
    assert (await me(client, token)).status_code == 401
    assert (await sign_in(client, "ada@example.com", "hubbub-demo")).status_code == 401
