"""The transactional outbox: what is told commits together with the change that it tells of.

    outbox_tables(Base.metadata)  # beside the application's own tables; Alembic sees them

    with Session.begin() as session:
        session.add(invoice)
        append(session, InvoicePaid(invoice_id=17), recipients=[user])

The relay, `relaying` in the application or ``python -m hubbub_client.outbox`` beside it, sends what
is committed over the bus or to a gateway: at least once, each time under the same id, so that it is
stored once.
"""

from importlib.util import find_spec

if find_spec("sqlalchemy") is None:
    raise ImportError("the outbox needs SQLAlchemy: pip install 'hubbub-client[sqlalchemy]'")

from hubbub_client.outbox.append import append, append_message, append_publication
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.relay import RelayMetrics, relaying
from hubbub_client.outbox.table import OutboxTables, outbox_tables
from hubbub_client.outbox.wake import wake_after_commit

__all__ = [
    "OutboxTables",
    "RelayLimits",
    "RelayMetrics",
    "append",
    "append_message",
    "append_publication",
    "outbox_tables",
    "relaying",
    "wake_after_commit",
]
