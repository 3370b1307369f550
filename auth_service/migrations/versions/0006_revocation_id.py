"""The id of the message that a session is over: it is not made of the session's id any more.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("revocation_id", sa.String(64)))
    op.execute(
        "UPDATE sessions SET revocation_id = 'session_revoked:' || id WHERE revoked_at IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_column("sessions", "revocation_id")
