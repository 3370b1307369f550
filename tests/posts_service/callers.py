"""People who call the posts service, and what they find in its outbox."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
from fastapi import FastAPI
from sqlalchemy import select

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import Sessions, transaction
from tests.fixtures.documented import Documented
from tests.fixtures.documented_messages import is_documented

HMAC_SECRET = "a secret for tests, and long enough"


def a_token(user_id: int | str, name: str, **claims: Any) -> str:
    """A token as a foreign issuer makes it."""
    expires = datetime.now(UTC) + timedelta(minutes=5)
    payload = {"sub": str(user_id), "name": name, "exp": int(expires.timestamp()), **claims}
    return jwt.encode(payload, HMAC_SECRET, algorithm="HS256")


def a_client(
    app: FastAPI,
    user_id: int | str,
    name: str,
    *,
    raise_app_exceptions: bool = True,
    documented: Documented | None = None,
    **claims: Any,
) -> httpx2.AsyncClient:
    """A signed-in client of the application; the caller closes it. Its answers are documented."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=raise_app_exceptions),
        base_url="http://posts",
        headers={"Authorization": f"Bearer {a_token(user_id, name, **claims)}"},
        event_hooks=(documented or Documented()).hooks,
    )


async def a_post(author: httpx2.AsyncClient, title: str = "Hello", body: str = "World") -> int:
    """Have the author write a post; return its id."""
    answer = await author.post("/posts", json={"title": title, "body": body})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def events(sessions: Sessions) -> list[Envelope]:
    """What the outbox holds, in the order in which it will leave."""
    async with transaction(sessions, read_only=True) as session:
        rows = await session.scalars(select(OutboxRow).order_by(OutboxRow.position))
        payloads = [row.payload for row in rows]
    envelopes = [Envelope.model_validate_json(payload) for payload in payloads]
    for payload, envelope in zip(payloads, envelopes, strict=True):
        assert is_documented("posts_events.send", json.loads(payload))
        assert is_documented("feed.send", envelope.to_publication_data())
    return envelopes
