"""A failure above a connection costs that connection, and no other."""

from collections.abc import Callable

import structlog

from gateway.engine.connection import Connection
from gateway.errors import INTERNAL_ERROR

log = structlog.get_logger(__name__)


def survive(connection: Connection, step: Callable[[], None]) -> None:
    """Do one synchronous step for a connection; what awaits is for `Connection.start`.

    Whoever calls it has others to serve, and most of them for nothing that is their fault.
    """
    try:
        step()
    except Exception:
        log.exception("connection_work_failed", connection_id=connection.id)
        connection.close(*INTERNAL_ERROR)
