"""A user's id is any text, as the `sub` of another issuer's tokens may be; until now a number.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_Type = sa.String | sa.BigInteger
_TEXT = sa.String(128)
_NUMBER = sa.BigInteger()
_COLUMNS = (
    ("posts", "author_id"),
    ("comments", "author_id"),
    ("likes", "user_id"),
    ("like_notices", "user_id"),
)


def upgrade() -> None:
    _change(_NUMBER, _TEXT, empty="")


def downgrade() -> None:
    for table, column in _COLUMNS:  # PostgreSQL itself raises at an id that is not all digits
        there_and_back = f"CAST(CAST({column} AS BIGINT) AS TEXT)"
        other = sa.text(f"SELECT 1 FROM {table} WHERE {column} != {there_and_back}")
        if op.get_bind().execute(other).first() is not None:
            raise ValueError(f"{table} has users whose ids are no numbers")
    _change(_TEXT, _NUMBER, empty="0")


def _change(before: _Type, after: _Type, *, empty: str) -> None:
    for table, column in _COLUMNS:
        if not _is_sqlite():
            op.alter_column(
                table,
                column,
                existing_type=before,
                type_=after,
                postgresql_using=f"CAST({column} AS {after})",
            )
        elif column == "author_id":
            # Copying the table would delete its likes and comments, by their foreign keys, and
            # forget which ids were used. An added column needs a default, which no row keeps.
            given = sa.Column("of_author", after, nullable=False, server_default=empty)
            op.add_column(table, given)
            op.execute(f"UPDATE {table} SET of_author = CAST({column} AS {after})")
            op.drop_column(table, column)
            op.execute(f"ALTER TABLE {table} RENAME COLUMN of_author TO {column}")
        else:
            with op.batch_alter_table(table) as batch:
                batch.alter_column(column, existing_type=before, type_=after)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
