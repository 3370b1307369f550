"""The tables of the auth service."""

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hubbub_client.contracts.ids import UserId
from hubbub_client.outbox import outbox_tables
from hubbub_client.sql.database import Moment

# SQLite numbers rows by itself only in a column that it calls INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")

SESSION_ID_CHARS = 32


def user_id_of(account: int) -> UserId:
    """An account's id in the form in which other services know it."""
    return UserId(str(account))


class Base(DeclarativeBase):
    """The tables of the service, and the outbox's."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


outbox_tables(Base.metadata)


class UserRow(Base):
    """An account."""

    __tablename__ = "users"
    # An id names a personal channel, so a deleted user's id is never used again.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    """As its owner wrote it."""
    email_key: Mapped[str] = mapped_column(Text, unique=True)
    """The email in the form in which emails are compared."""
    name: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)


class SessionRow(Base):
    """One sign-in, with all tokens that descend from it: the family of its refresh tokens."""

    __tablename__ = "sessions"
    __table_args__ = (
        # Partial: most sessions are not revoked.
        Index(
            "ix_sessions_revoked_at",
            "revoked_at",
            "id",
            postgresql_where=text("revoked_at IS NOT NULL"),
            sqlite_where=text("revoked_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(SESSION_ID_CHARS), primary_key=True)
    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
    """When its newest refresh token expires."""
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    revocation_id: Mapped[str | None] = mapped_column(String(64))
    """Of the message that says so. Nobody can know it before: the bus would take the message for a
    repeat of any that has its id."""


class RefreshTokenRow(Base):
    """A refresh token; only its digest is stored."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
    used_at: Mapped[datetime | None] = mapped_column(Moment)
    """The row stays until it expires, so that a second use is recognised."""


class FailuresRow(Base):
    """The newest failed sign-ins of one account or from one address, or registrations from one."""

    __tablename__ = "sign_in_failures"

    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    failed_at: Mapped[list[float]] = mapped_column(JSON)
    """Unix seconds, ascending; as many as the limit."""
    last_at: Mapped[datetime] = mapped_column(Moment, index=True)
