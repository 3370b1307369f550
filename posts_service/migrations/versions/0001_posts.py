"""Posts, likes, comments, and the outbox.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

from hubbub_client.sql.database import Moment
from shared.sql.migrations import create_outbox, drop_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "posts",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        sa.Column("author_id", sa.BigInteger, nullable=False),
        sa.Column("author_name", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("like_count", sa.BigInteger, nullable=False),
        sa.Column("comment_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "likes",
        _of_a_post(primary_key=True),
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "like_notices",
        _of_a_post(primary_key=True),
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("notified_at", Moment, nullable=False),
    )
    op.create_table(
        "comments",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        _of_a_post(primary_key=False),
        sa.Column("author_id", sa.BigInteger, nullable=False),
        sa.Column("author_name", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_comments_post_id_id", "comments", ["post_id", "id"])
    create_outbox()


def downgrade() -> None:
    drop_outbox()
    for table in ("comments", "like_notices", "likes", "posts"):
        op.drop_table(table)


def _of_a_post(*, primary_key: bool) -> sa.Column[int]:
    return sa.Column(
        "post_id",
        sa.BigInteger,
        sa.ForeignKey("posts.id", ondelete="CASCADE"),
        primary_key=primary_key,
        autoincrement=False,
        nullable=False,
    )
