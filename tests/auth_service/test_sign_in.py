import httpx2
import pytest
from sqlalchemy import func, select
from starlette.datastructures import FormData
from starlette.formparsers import FormParser, MultiPartParser

from auth_service.app import AuthParts
from auth_service.tables import SessionRow
from hubbub_client.sql.database import transaction
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.configured import own_issuer
from tests.auth_service.people import (
    PASSWORD,
    a_signed_in_user,
    me,
    problem_of,
    register,
    sign_in,
)


def but_for_the_request_id(answer: httpx2.Response) -> dict[str, object]:
    return {key: value for key, value in answer.json().items() if key != "request_id"}


async def test_signing_in_answers_a_pair_that_others_believe(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    user_id = (await register(client)).json()["id"]

    answer = await sign_in(client)

    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    assert answer.headers["Cache-Control"] == "no-store"
    issuer = own_issuer(parts.keys, name="hubbub", audience="hubbub", max_token_seconds=900)
    verifier = TokenVerifier([issuer])
    claims = await verifier.verify(tokens["access_token"])
    assert (claims.user_id, claims.name) == (str(user_id), "Ann")


async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(
    client: httpx2.AsyncClient,
) -> None:
    await register(client)

    wrong = await sign_in(client, password="incorrect horse")
    unknown = await sign_in(client, "nobody@example.com")

    assert problem_of(wrong) == problem_of(unknown) == (401, "wrong_credentials")
    assert but_for_the_request_id(wrong) == but_for_the_request_id(unknown)
    differing = {"x-request-id"}
    assert {k: v for k, v in wrong.headers.items() if k not in differing} == {
        k: v for k, v in unknown.headers.items() if k not in differing
    }


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 422), ({"username": "ann@example.com"}, 422), ({"password": PASSWORD}, 422),
        ({"username": "ann@example.com", "password": ""}, 422),
        ({"username": "", "password": PASSWORD}, 422),
        ({"username": "ann@example.com", "password": "x" * 201}, 422),
        ({"username": "a" * 300, "password": PASSWORD}, 422),
        ({"username": "ann\0@example.com", "password": PASSWORD}, 422),
        ({"username": "ann@example.com", "password": PASSWORD, "grant_type": "implicit"}, 422),
        ({"username": "' OR 1=1 --", "password": PASSWORD}, 401),
        ({"username": "ann@example.com", "password": "\0"}, 401),
        ({"username": "ann@example.com", "password": "' OR '1'='1"}, 401),
        ({"username": "ann@example.com", "password": "x" * 70_000}, 413),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
async def test_a_form_that_does_not_fit_is_refused(
    client: httpx2.AsyncClient, form: dict[str, str], status: int
) -> None:
    await register(client)

    assert problem_of(await client.post("/auth/token", data=form))[0] == status


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"username": "ann@example.com", "password": "correct horse"}'),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nnot a part"),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="username"; filename="f"\r\n\r\na\r\n--x--'),
        ("application/x-www-form-urlencoded", b"username=%ff%fe&password=%ed%a0%80"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"%%%&&==\xff"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_form_is_refused(
    client: httpx2.AsyncClient, content_type: str, body: bytes
) -> None:
    answer = await client.post("/auth/token", content=body, headers={"Content-Type": content_type})

    assert problem_of(answer)[0] in (400, 401, 422)


async def test_the_longest_form_that_fits_is_read(client: httpx2.AsyncClient) -> None:
    email, password = f"{'🦊' * 242}@example.com", "🦊" * 200
    assert (await register(client, email, password=password)).status_code == 201

    assert (await sign_in(client, email, password)).status_code == 200


A_PART = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"&" * 8000, 422),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"a=b&" * 20, 422),
        ("application/x-www-form-urlencoded", b"username=" + b"%41" * 3000, 413),
        ("multipart/form-data; boundary=x", A_PART * 21, 422),
        ("multipart/form-data; boundary=x", A_PART * 200, 413),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_form_that_would_take_long_to_parse_is_not_parsed(
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    content_type: str,
    body: bytes,
    status: int,
) -> None:
    async def parse(*_arguments: object) -> FormData:
        raise AssertionError("parsed")

    monkeypatch.setattr(FormParser, "parse", parse)
    monkeypatch.setattr(MultiPartParser, "parse", parse)

    answer = await client.post("/auth/token", content=body, headers={"Content-Type": content_type})

    assert problem_of(answer)[0] == status


async def test_each_sign_in_is_a_session_of_its_own(
    client: httpx2.AsyncClient, parts: AuthParts
) -> None:
    tokens = await a_signed_in_user(client)
    again = (await sign_in(client)).json()

    async with transaction(parts.sessions) as db:
        assert await db.scalar(select(func.count()).select_from(SessionRow)) == 2
    for pair in (tokens, again):
        assert (await me(client, pair["access_token"])).status_code == 200
