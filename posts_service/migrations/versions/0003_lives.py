"""Where the outbox's rows lie in their stream is found by an index, in each of its lives.

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
