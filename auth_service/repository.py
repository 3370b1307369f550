"""Every SQL statement of the auth service.

A function that changes a session or its refresh tokens needs the session's row locked first.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, delete, literal, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.errors import EmailTaken
from auth_service.tables import FailuresRow, RefreshTokenRow, SessionRow, UserRow
from hubbub_client.sql.database import Moment
from shared.tokens.claims import SessionId


class FoundSession(NamedTuple):
    """A session and its user."""

    session: SessionRow
    user: UserRow


async def add_user(db: AsyncSession, user: UserRow) -> None:
    """Insert the user, which gets its id.

    Raises:
        EmailTaken: another account has the email, even if both were made at once.
    """
    db.add(user)
    try:
        await db.flush()
    except IntegrityError as error:
        raise EmailTaken from error


async def find_user(db: AsyncSession, *email_keys: str) -> UserRow | None:
    """The account with the first of these keys that an account has."""
    users = await db.scalars(select(UserRow).where(UserRow.email_key.in_(email_keys)))
    return min(users, key=lambda user: email_keys.index(user.email_key), default=None)


async def delete_user(db: AsyncSession, user: UserRow) -> None:
    """The user's sessions go with it, by the foreign key."""
    await db.execute(delete(UserRow).where(UserRow.id == user.id))


async def replace_hash(db: AsyncSession, user: UserRow, new_hash: str) -> None:
    """Store a new hash of the same password, unless the password was changed meanwhile."""
    unchanged = (UserRow.id == user.id) & (UserRow.password_hash == user.password_hash)
    await db.execute(update(UserRow).where(unchanged).values(password_hash=new_hash))


async def find_session(db: AsyncSession, session_id: SessionId) -> FoundSession | None:
    return await _found(db, session_id, lock=False)


async def lock_session(db: AsyncSession, session_id: SessionId) -> FoundSession | None:
    """Read the session and lock it until commit; on SQLite the transaction itself is the lock."""
    return await _found(db, session_id, lock=True)


async def _found(db: AsyncSession, session_id: SessionId, *, lock: bool) -> FoundSession | None:
    found = select(SessionRow, UserRow).join(UserRow, UserRow.id == SessionRow.user_id)
    found = found.where(SessionRow.id == session_id)
    if lock:
        found = found.with_for_update(of=SessionRow)
    row = (await db.execute(found)).first()
    return None if row is None else FoundSession(*row)


async def add_session(db: AsyncSession, session: SessionRow) -> None:
    db.add(session)
    await db.flush()


async def add_refresh_token(db: AsyncSession, token: RefreshTokenRow) -> None:
    db.add(token)
    await db.flush()


async def find_refresh_token(db: AsyncSession, digest: bytes) -> RefreshTokenRow | None:
    return await db.get(RefreshTokenRow, digest)


async def use_refresh_token(db: AsyncSession, digest: bytes, *, now: datetime) -> bool:
    """Mark it as used; False if it was used already, whatever an earlier read said."""
    unused = (RefreshTokenRow.digest == digest) & RefreshTokenRow.used_at.is_(None)
    using = update(RefreshTokenRow).where(unused).values(used_at=now)
    return await _affected(db, using) == 1


async def lock_failures(db: AsyncSession, key: str) -> FailuresRow:
    """The failures under the key, locked until commit; the row is made if there is none."""
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    upsert = (
        insert(FailuresRow)
        .values(key=key, failed_at=[], last_at=datetime.now(UTC))
        # An update that changes nothing: it locks the row, where DO NOTHING would not.
        .on_conflict_do_update(index_elements=[FailuresRow.key], set_={"key": key})
        .returning(FailuresRow)
    )
    return (await db.scalars(upsert)).one()


async def read_failures(
    db: AsyncSession, keys: Sequence[str], *, lock: bool
) -> dict[str, list[float]]:
    """When sign-ins failed under each of the keys that have any."""
    found = select(FailuresRow).where(FailuresRow.key.in_(keys)).order_by(FailuresRow.key)
    if lock:
        found = found.with_for_update()
    return {row.key: row.failed_at for row in await db.scalars(found)}


async def revoked_since(
    db: AsyncSession, since: datetime, *, after: SessionRow | None, limit: int
) -> Sequence[SessionRow]:
    """Sessions that were ended since then, the newest first; ``after`` continues a list."""
    found = select(SessionRow).where(SessionRow.revoked_at >= since)
    if after is not None:
        key = tuple_(SessionRow.revoked_at, SessionRow.id)
        found = found.where(key < tuple_(literal(after.revoked_at, Moment), literal(after.id)))
    return (
        await db.scalars(
            found.order_by(SessionRow.revoked_at.desc(), SessionRow.id.desc()).limit(limit)
        )
    ).all()


async def prune_failures(db: AsyncSession, *, before: datetime, limit: int) -> int:
    """Delete old rows; a locked row is being changed, so it is skipped."""
    old = select(FailuresRow.key).where(FailuresRow.last_at < before).limit(limit)
    old = old.with_for_update(skip_locked=True)
    return await _affected(db, delete(FailuresRow).where(FailuresRow.key.in_(old)))


async def prune_refresh_tokens(db: AsyncSession, *, before: datetime, limit: int) -> int:
    old = select(RefreshTokenRow.digest).where(RefreshTokenRow.expires_at < before).limit(limit)
    old = old.with_for_update(skip_locked=True)
    return await _affected(db, delete(RefreshTokenRow).where(RefreshTokenRow.digest.in_(old)))


async def prune_sessions(db: AsyncSession, *, before: datetime, limit: int) -> int:
    """Their refresh tokens go with them, by the foreign key."""
    old = select(SessionRow.id).where(SessionRow.expires_at < before).limit(limit)
    old = old.with_for_update(skip_locked=True)
    return await _affected(db, delete(SessionRow).where(SessionRow.id.in_(old)))


async def _affected(db: AsyncSession, statement: Any) -> int:
    result = await db.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return result.rowcount
