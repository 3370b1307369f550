"""A token seen before: cheap to recognise, and never believed for longer than it holds."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.session.access import Authenticator
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import UserId
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import SessionId
from shared.tokens.errors import InvalidToken
from shared.tokens.jwk import trusted_key
from shared.tokens.keys import FixedKeys
from shared.tokens.revocations import Revocations, SessionRevoked, UserRevoked
from tests.fixtures.tokens import (
    FOREIGN,
    MAX_TOKEN_SECONDS,
    OUR_KEY,
    Clock,
    a_foreign_token,
    a_token,
    a_verifier,
    some_claims,
)

SESSION, ANN = SessionId("s-1"), UserId("7")


class Keys(FixedKeys):
    """Keys that can be replaced, as those of an issuer's URL are."""

    def become(self, public: Ed25519PublicKey) -> None:
        super().__init__([trusted_key(public)])


class Gate:
    """A guard with its clock, its keys and its revocations in the test's hands."""

    def __init__(self) -> None:
        self.clock, self.keys = Clock(), Keys([OUR_KEY])
        self.verifier: TokenVerifier = a_verifier(keys=self.keys, now=self.clock)
        self.revocations = Revocations(max_token_seconds=MAX_TOKEN_SECONDS, monotonic=self.clock)
        self.knows_revocations = True
        self.guard = Authenticator(
            self.verifier, self.revocations, knows_revocations=lambda: self.knows_revocations
        )

    def revoke_session(self) -> None:
        self._apply(SessionRevoked(session_id=SESSION, user_id=ANN, time=self._now()))

    def revoke_user(self) -> None:
        self._apply(UserRevoked(user_id=ANN, time=self._now()))

    def _apply(self, message: SessionRevoked | UserRevoked) -> None:
        assert self.revocations.apply(message.model_dump_json().encode()) is not None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now, UTC)


@pytest.mark.parametrize("make", [a_token, a_foreign_token])
async def test_who_was_here_before_is_recognised_at_once(
    make: Callable[[dict[str, Any]], str],
) -> None:
    gate, token = Gate(), make(some_claims())
    assert gate.verifier.recall(token) is None

    claims = await gate.guard.verify(token)

    assert gate.verifier.recall(token) is claims
    assert claims.user_id == ANN


async def test_a_token_that_expired_meanwhile_is_refused() -> None:
    gate, token = Gate(), a_token(some_claims())
    claims = await gate.guard.verify(token)

    gate.clock.now = claims.expires_at

    await _is_refused(gate, token)


@pytest.mark.parametrize("revoke", [Gate.revoke_session, Gate.revoke_user])
async def test_a_token_that_was_revoked_meanwhile_is_refused(
    revoke: Callable[[Gate], None],
) -> None:
    gate, token = Gate(), a_token(some_claims())
    claims = await gate.guard.verify(token)

    revoke(gate)

    with pytest.raises(InvalidToken):
        gate.guard.confirm(claims)
    await _is_refused(gate, token)


async def test_a_token_whose_key_was_withdrawn_meanwhile_is_refused() -> None:
    gate, token = Gate(), a_token(some_claims())
    claims = await gate.guard.verify(token)

    gate.keys.become(FOREIGN.public_key())

    with pytest.raises(InvalidToken):
        gate.guard.confirm(claims)
    await _is_refused(gate, token)


async def test_of_two_tokens_only_the_one_that_is_over_is_forgotten() -> None:
    gate = Gate()
    ended, living = a_token(some_claims()), a_token(some_claims(sid="s-2"))
    for token in (ended, living):
        await gate.guard.verify(token)

    gate.revoke_session()

    await _is_refused(gate, ended)
    assert gate.verifier.recall(living) is not None
    assert gate.verifier.remembered == 1


async def test_a_new_token_of_a_revoked_user_is_remembered() -> None:
    gate = Gate()
    gate.revoke_user()
    gate.clock.now += 60
    token = a_token(some_claims(iat=gate.clock.now))

    await gate.guard.verify(token)

    assert gate.verifier.recall(token) is not None


async def test_while_it_is_not_known_what_was_revoked_nobody_is_believed() -> None:
    gate, known, new = Gate(), a_token(some_claims()), a_token(some_claims(sid="s-2"))
    claims = await gate.guard.verify(known)

    gate.knows_revocations = False

    for token in (known, new):
        with pytest.raises(Unavailable):
            await gate.guard.verify(token)
        with pytest.raises(Unavailable):
            gate.guard.verify_at_once(token)
    with pytest.raises(Unavailable):
        gate.guard.confirm(claims)
    gate.knows_revocations = True
    gate.guard.confirm(claims)


async def _is_refused(gate: Gate, token: str) -> None:
    with pytest.raises(InvalidToken):
        await gate.guard.verify(token)
    assert gate.verifier.recall(token) is None
