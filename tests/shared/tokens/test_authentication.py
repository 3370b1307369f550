from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI

from hubbub_client.contracts.ids import UserId
from shared.tokens.authentication import authenticate
from shared.tokens.claims import Claims, SessionId
from shared.tokens.keys import FixedKeys
from shared.tokens.revocations import Revocations, SessionRevoked
from shared.web.http import install_edge
from tests.fixtures.tokens import NOW, a_token, a_verifier, some_claims


class Ctl:
    """The CTL stream, as far as the dependency sees it."""

    def __init__(self) -> None:
        self.revocations = Revocations(max_token_seconds=3600)
        self.replayed = True

    def revoke(self, session: str) -> None:
        message = SessionRevoked(
            session_id=SessionId(session),
            user_id=UserId("7"),
            time=datetime.fromtimestamp(NOW, UTC),
        )
        self.revocations.apply(message.model_dump_json().encode())


@pytest.fixture
async def ctl() -> Ctl:
    return Ctl()


@pytest.fixture
async def client(ctl: Ctl) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    install_edge(app)
    caller = authenticate(a_verifier(), ctl.revocations, revocations_known=lambda: ctl.replayed)
    no_keys = authenticate(
        a_verifier(keys=FixedKeys(())), ctl.revocations, revocations_known=lambda: ctl.replayed
    )

    @app.get("/me")
    async def me(claims: Annotated[Claims, Depends(caller)]) -> dict[str, str]:
        return {"id": claims.user_id}

    @app.get("/without-keys")
    async def without_keys(claims: Annotated[Claims, Depends(no_keys)]) -> None:
        pass

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_good_token_says_who_is_asking(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/me", headers=bearer(a_token(some_claims())))

    assert (answer.status_code, answer.json()) == (200, {"id": "7"})


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("nonsense"), {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"},
     {"Authorization": "\xff"}, bearer(a_token(some_claims(exp=NOW)))],
)  # fmt: skip
async def test_no_or_a_bad_token_is_a_401(
    client: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    raw = [(name, value.encode("latin")) for name, value in headers.items()]

    answer = await client.get("/me", headers=raw)  # type: ignore[arg-type]

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_revoked_session_is_a_401(client: httpx2.AsyncClient, ctl: Ctl) -> None:
    ctl.revoke("s-1")

    answer = await client.get("/me", headers=bearer(a_token(some_claims())))
    other = await client.get("/me", headers=bearer(a_token(some_claims(sid="s-2"))))

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert other.status_code == 200


async def test_while_revocations_are_unknown_nobody_is_let_in(
    client: httpx2.AsyncClient, ctl: Ctl
) -> None:
    ctl.replayed = False

    answer = await client.get("/me", headers=bearer(a_token(some_claims())))
    bad = await client.get("/me", headers=bearer("nonsense"))

    assert (answer.status_code, answer.json()["code"]) == (503, "revocations_unknown")
    assert bad.status_code == 401


async def test_while_keys_are_unknown_nobody_is_let_in(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/without-keys", headers=bearer(a_token(some_claims())))

    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unknown")
