"""An index over the sequences of the outbox's rows, for each life of their stream.

Revision ID: 0003
"""

from shared.sql.migrations import add_outbox_lives, drop_outbox_lives

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_outbox_lives()


def downgrade() -> None:
    drop_outbox_lives()
