"""The key by which emails are compared is normalised after case folding, not before.

Case folding decomposes some letters, so one email in two cases had two keys. Where two accounts
now have the same email both stay: the older one gets the new key, the other keeps its old one.

Revision ID: 0003
"""

import unicodedata
from collections.abc import Callable, Iterator

import sqlalchemy as sa
import structlog
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

log = structlog.get_logger(__name__)

_BATCH = 1000
_USERS = sa.table(
    "users", sa.column("id", sa.BigInteger), sa.column("email"), sa.column("email_key")
)


def upgrade() -> None:
    _make_keys(_folded_then_normalised)


def downgrade() -> None:
    _make_keys(_normalised_then_folded)


def _make_keys(key_of: Callable[[str], str]) -> None:
    for user_id, email, key in list(_beyond_ascii()):
        wanted = key_of(email)
        if wanted == key:
            continue
        taken = sa.select(_USERS.c.id).where(_USERS.c.email_key == wanted)
        if op.get_bind().execute(taken).first() is not None:
            log.warning("email_of_two_accounts", user_id=user_id)
            continue
        change = sa.update(_USERS).where(_USERS.c.id == user_id).values(email_key=wanted)
        op.get_bind().execute(change)


def _beyond_ascii() -> Iterator[tuple[int, str, str]]:
    """The accounts whose keys may change, the oldest first."""
    after = 0
    while True:
        some = sa.select(_USERS.c.id, _USERS.c.email, _USERS.c.email_key)
        some = some.where(_USERS.c.id > after).order_by(_USERS.c.id).limit(_BATCH)
        rows = op.get_bind().execute(some).all()
        if not rows:
            return
        after = rows[-1].id
        for row in rows:
            if not row.email.isascii():
                yield row.id, row.email, row.email_key


def _folded_then_normalised(email: str) -> str:
    folded = unicodedata.normalize("NFD", email.strip()).casefold()
    return unicodedata.normalize("NFC", folded)


def _normalised_then_folded(email: str) -> str:
    return unicodedata.normalize("NFC", email.strip()).casefold()
