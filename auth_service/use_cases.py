"""What the auth service does, one function each.

A function that hashes a password opens its transactions itself: one that stayed open for so long
would hold up every other writer.
"""

import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service import repository
from auth_service.errors import (
    EmailTaken,
    InvalidRefreshToken,
    RevocationPending,
    WrongCredentials,
)
from auth_service.hash_queue import Lane
from auth_service.passwords import Passwords
from auth_service.repository import FoundSession
from auth_service.signing import TokenIssuer, digest_of, new_refresh_token
from auth_service.tables import RefreshTokenRow, SessionRow, UserRow, user_id_of
from auth_service.throttle import Throttle
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from hubbub_client.outbox import append_message
from hubbub_client.outbox.batch import publish_at_once
from hubbub_client.outbox.rows import is_unsent
from hubbub_client.sql.database import Sessions, database_now, transaction
from shared.tokens.claims import Claims, SessionId
from shared.tokens.errors import InvalidToken
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked

log = structlog.get_logger(__name__)

PRUNE_BATCH = 1000


class Tokens(NamedTuple):
    """An access token and the refresh token that gets the next one."""

    access_token: str
    refresh_token: str


def email_key(email: str) -> str:
    """The email in the form in which emails are compared: without case, in one Unicode form.

    Source: the Unicode Standard, section 3.13, D145. Case folding decomposes some letters, so
    they are composed again after it.
    """
    folded = unicodedata.normalize("NFD", email.strip()).casefold()
    return unicodedata.normalize("NFC", folded)


def _keys_of(email: str) -> tuple[str, ...]:
    """The keys under which an account may be, in the order to look.

    Keys were once normalised before case folding. Where two accounts would now have one key, the
    younger one is still under its old key.
    """
    key, old_key = email_key(email), unicodedata.normalize("NFC", email.strip()).casefold()
    return (key,) if old_key == key else (old_key, key)


async def register(
    sessions: Sessions,
    passwords: Passwords,
    *,
    throttle: Throttle,
    email: str,
    name: str,
    password: str,
    address: str,
) -> UserRow:
    """Make an account.

    Raises:
        TooManyRegistrations: from this address.
        EmailTaken: there is one with this email.
        TooBusy: too many passwords wait to be hashed.
    """
    attempt = throttle.registration(address)
    throttle.refuse_known(attempt)
    passwords.refuse_if_full(Lane.REGISTERING, address)
    async with transaction(sessions) as db:
        refusal = await throttle.count(db, attempt)
    if refusal is not None:
        log.info("registration_refused", code=refusal.code)
        raise refusal
    return await _make_account(
        sessions, passwords, email=email, name=name, password=password, address=address
    )


async def ensure_user(
    sessions: Sessions, passwords: Passwords, *, email: str, name: str, password: str
) -> bool:
    """Make the user with this email, if there is none; an existing account is not changed.

    Returns:
        Whether the account has this password.
    """
    try:
        await _make_account(
            sessions, passwords, email=email, name=name, password=password, address=""
        )
    except EmailTaken:
        return await _find_by_password(sessions, passwords, email, password) is not None
    return True


async def delete_user(
    sessions: Sessions, passwords: Passwords, *, email: str, password: str
) -> bool:
    """Delete the account with this email, if it has this password; its sessions go with it.

    Returns:
        Whether there was one.
    """
    user = await _find_by_password(sessions, passwords, email, password)
    if user is not None:
        async with transaction(sessions) as db:
            await repository.delete_user(db, user)
    return user is not None


async def _find_by_password(
    sessions: Sessions, passwords: Passwords, email: str, password: str
) -> UserRow | None:
    async with transaction(sessions, read_only=True) as db:
        user = await repository.find_user(db, *_keys_of(email))
    if user is None:
        return None
    checked = await passwords.check(user.password_hash, password, address="")
    return user if checked.matches else None


async def _make_account(
    sessions: Sessions,
    passwords: Passwords,
    *,
    email: str,
    name: str,
    password: str,
    address: str,
) -> UserRow:
    async with transaction(sessions, read_only=True) as db:
        if await repository.find_user(db, *_keys_of(email)) is not None:
            raise EmailTaken
    user = UserRow(
        email=email,
        email_key=email_key(email),
        name=name,
        password_hash=await passwords.hash(password, lane=Lane.REGISTERING, address=address),
        created_at=datetime.now(UTC),
    )
    async with transaction(sessions) as db:
        await repository.add_user(db, user)
    log.info("user_registered", user_id=user.id)
    return user


async def sign_in(
    sessions: Sessions,
    passwords: Passwords,
    issuer: TokenIssuer,
    *,
    throttle: Throttle,
    refresh_lifetime: timedelta,
    email: str,
    password: str,
    address: str,
) -> Tokens:
    """Begin a session.

    The throttle is asked twice: before the password is hashed, to save the work, and afterwards,
    under a lock. So many guesses at once get no more answers than guesses in a row, and past the
    limit the right password is refused like a wrong one.

    Raises:
        WrongCredentials: no such user, or not their password.
        TooManyFailures: for this account or from this address.
        TooBusy: too many passwords wait to be hashed.
    """
    attempt = throttle.sign_in(email_key(email), address)
    throttle.refuse_known(attempt)
    passwords.refuse_if_full(Lane.SIGNING_IN, address)
    async with transaction(sessions, read_only=True) as db:
        await throttle.check(db, attempt, lock=False)
        user = await repository.find_user(db, *_keys_of(email))
    known_hash = None if user is None else user.password_hash
    matches, new_hash = await passwords.check(known_hash, password, address=address)
    if user is None or not matches:
        async with transaction(sessions) as db:
            failure = await throttle.count(db, attempt) or WrongCredentials()
        log.info("sign_in_failed", user_id=None if user is None else user.id, code=failure.code)
        raise failure
    async with transaction(sessions) as db:
        await throttle.check(db, attempt, lock=True)
        if new_hash is not None:
            await repository.replace_hash(db, user, new_hash)
        now = datetime.now(UTC)
        session = SessionRow(
            id=uuid4().hex, user_id=user.id, created_at=now, expires_at=now + refresh_lifetime
        )
        await repository.add_session(db, session)
        tokens = await _issue(db, issuer, FoundSession(session, user))
    log.info("session_started", session_id=session.id, user_id=user.id)
    return tokens


async def refresh(
    sessions: Sessions,
    publisher: Publisher,
    issuer: TokenIssuer,
    refresh_token: str,
    *,
    lifetime: timedelta,
    revoke_seconds: float,
) -> Tokens:
    """Trade a refresh token for the next pair; of several tries at once, one succeeds.

    The second use may be a thief's, or the owner's after a thief: the session ends for both
    (RFC 9700 section 4.14.2).

    Raises:
        InvalidRefreshToken: also if this call has ended the session.
    """
    async with transaction(sessions, read_only=True) as db:
        if await repository.find_refresh_token(db, digest_of(refresh_token)) is None:
            raise InvalidRefreshToken  # a guess takes no lock
    async with transaction(sessions) as db:
        outcome = await _refresh(db, issuer, refresh_token, lifetime=lifetime)
    if isinstance(outcome, Tokens):
        return outcome
    if outcome is not None:
        with suppress(RevocationPending):  # the outbox publishes it later
            await _publish_revocation(sessions, publisher, outcome, seconds=revoke_seconds)
    raise InvalidRefreshToken


async def _refresh(
    db: AsyncSession, issuer: TokenIssuer, refresh_token: str, *, lifetime: timedelta
) -> Tokens | SessionRow | None:
    """The next pair; or the session that was ended because of a second use; or None."""
    now = datetime.now(UTC)
    digest = digest_of(refresh_token)
    token = await repository.find_refresh_token(db, digest)
    if token is None:
        return None
    found = await repository.lock_session(db, SessionId(token.session_id))
    if found is None or found.session.revoked_at is not None:
        return None
    if token.expires_at <= now:
        return None  # and not marked as used: if our clock is ahead, it is valid again later
    if not await repository.use_refresh_token(db, digest, now=now):
        log.warning(
            "refresh_token_reused", session_id=found.session.id, user_id=found.session.user_id
        )
        _revoke(db, found.session, now=now)
        return found.session
    found.session.expires_at = now + lifetime
    return await _issue(db, issuer, found)


async def active_session(db: AsyncSession, claims: Claims) -> FoundSession:
    """The session of the claims.

    Raises:
        InvalidToken: it is over.
    """
    found = None
    if claims.session_id is not None:
        found = await repository.find_session(db, claims.session_id)
    return _active(found, claims)


async def sign_out(
    sessions: Sessions, publisher: Publisher, claims: Claims, *, revoke_seconds: float
) -> None:
    """End the session. Once this returns the bus has stored that, and no service takes its tokens.

    Raises:
        RevocationPending: it is over here, but could not be published yet. Until it is, the same
            token may sign out again.
        InvalidToken: it was over before.
    """
    session_id = claims.session_id
    if session_id is None:
        raise InvalidToken("the session is over")
    async with transaction(sessions) as db:
        found = await repository.lock_session(db, session_id)
        session = await _with_unsent_revocation(db, found, claims)
        if session is None:
            session = _active(found, claims).session
            _revoke(db, session, now=datetime.now(UTC))
    await _publish_revocation(sessions, publisher, session, seconds=revoke_seconds)


async def prune(db: AsyncSession, *, throttle_seconds: float, max_token_seconds: float) -> bool:
    """Delete a batch of what has expired; return whether there may be more."""
    now = datetime.now(UTC)
    # A session stays as long as an access token of it may live.
    ended = now - timedelta(seconds=max_token_seconds)
    forgotten = await database_now(db) - timedelta(seconds=throttle_seconds)
    deleted = (
        await repository.prune_sessions(db, before=ended, limit=PRUNE_BATCH),
        await repository.prune_refresh_tokens(db, before=now, limit=PRUNE_BATCH),
        await repository.prune_failures(db, before=forgotten, limit=PRUNE_BATCH),
    )
    return PRUNE_BATCH in deleted


def _is_of(found: FoundSession | None, claims: Claims) -> bool:
    return found is not None and user_id_of(found.user.id) == claims.user_id


def _active(found: FoundSession | None, claims: Claims) -> FoundSession:
    if found is None or not _is_of(found, claims) or found.session.revoked_at is not None:
        raise InvalidToken("the session is over")
    return found


async def _with_unsent_revocation(
    db: AsyncSession, found: FoundSession | None, claims: Claims
) -> SessionRow | None:
    """The session of the claims, if it is over and that is not known to be stored by the bus."""
    if found is None or not _is_of(found, claims) or found.session.revocation_id is None:
        return None
    return found.session if await is_unsent(db, found.session.revocation_id) else None


async def _publish_revocation(
    sessions: Sessions, publisher: Publisher, session: SessionRow, *, seconds: float
) -> None:
    """Publish it now, without waiting for the outbox's lease, which a dead process may hold.

    Raises:
        RevocationPending: the bus did not store it within so many seconds.
    """
    assert session.revocation_id is not None
    try:
        await publish_at_once(sessions, publisher, session.revocation_id, deadline_seconds=seconds)
    except (BusUnavailable, MessageRejected) as error:
        log.warning("revocation_pending", session_id=session.id, error=str(error))
        raise RevocationPending from error


def _revoke(db: AsyncSession, session: SessionRow, *, now: datetime) -> None:
    """End a locked, active session, and put its revocation into the outbox."""
    message = SessionRevoked(
        session_id=SessionId(session.id), user_id=user_id_of(session.user_id), time=now
    )
    session.revoked_at = now
    session.revocation_id = message.id
    append_message(
        db,
        subject=SESSION_REVOKED_SUBJECT,
        aggregate=f"session:{session.id}",
        message_id=message.id,
        payload=message.model_dump_json().encode(),
    )
    log.info("session_revoked", session_id=session.id, user_id=session.user_id)


async def _issue(db: AsyncSession, issuer: TokenIssuer, found: FoundSession) -> Tokens:
    session, user = found
    refresh_token = new_refresh_token()
    await repository.add_refresh_token(
        db,
        RefreshTokenRow(
            digest=digest_of(refresh_token),
            session_id=session.id,
            expires_at=session.expires_at,
        ),
    )
    access_token = issuer.issue(user_id_of(user.id), user.name, SessionId(session.id))
    return Tokens(access_token, refresh_token)
