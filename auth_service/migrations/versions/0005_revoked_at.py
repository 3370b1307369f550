"""An index over the sessions that were ended, to publish them again in batches.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_over = sa.text("revoked_at IS NOT NULL")
    op.create_index(
        "ix_sessions_revoked_at",
        "sessions",
        ["revoked_at", "id"],
        postgresql_where=is_over,
        sqlite_where=is_over,
    )


def downgrade() -> None:
    op.drop_index("ix_sessions_revoked_at", "sessions")
