"""What the outbox knows of its stream, to notice when the bus has lost it.

Revision ID: 0002
"""

from shared.sql.migrations import add_outbox_streams, drop_outbox_streams

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_outbox_streams()


def downgrade() -> None:
    drop_outbox_streams()
