"""The tables of the posts service."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hubbub_client.arguments import MAX_USER_ID_CHARS
from hubbub_client.contracts.ids import UserId
from hubbub_client.outbox import outbox_tables
from hubbub_client.sql.database import Moment

_UserId = String(MAX_USER_ID_CHARS)
# SQLite numbers rows by itself only in a column that it calls INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The tables of the service, and the outbox's."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


outbox_tables(Base.metadata)


class PostRow(Base):
    """A post with its counts, which change only under the row's lock."""

    __tablename__ = "posts"
    # An id names a channel and stands in notifications, so it is never used again.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    author_id: Mapped[UserId] = mapped_column(_UserId)
    author_name: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    like_count: Mapped[int] = mapped_column(BigInteger, default=0)
    comment_count: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(Moment)


class LikeRow(Base):
    """A user likes a post."""

    __tablename__ = "likes"

    post_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UserId] = mapped_column(_UserId, primary_key=True)


class LikeNoticeRow(Base):
    """When the author was last notified that this user likes the post; outlives the like."""

    __tablename__ = "like_notices"

    post_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UserId] = mapped_column(_UserId, primary_key=True)
    notified_at: Mapped[datetime] = mapped_column(Moment)


class CommentRow(Base):
    """A comment on a post."""

    __tablename__ = "comments"
    __table_args__ = (
        Index("ix_comments_post_id_id", "post_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    post_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("posts.id", ondelete="CASCADE"))
    author_id: Mapped[UserId] = mapped_column(_UserId)
    author_name: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
