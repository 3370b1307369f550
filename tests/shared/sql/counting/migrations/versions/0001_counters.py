"""Counters, and the outbox that tells of them."""

import sqlalchemy as sa
from alembic import op

from shared.sql import migrations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.Integer(), nullable=False),
    )
    migrations.create_outbox()


def downgrade() -> None:
    migrations.drop_outbox()
    op.drop_table("counters")
