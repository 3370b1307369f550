"""A failure above a connection costs that connection, and no other."""

from collections.abc import Callable

from gateway.transport.connection import Connection


def isolate_failure(connection: Connection, step: Callable[[], None]) -> None:
    """Do one synchronous step for a connection; what awaits is for `Connection.start`.

    Whoever calls it has others to serve, and most of them for nothing that is their fault.
    """
    try:
        step()
    except Exception as error:
        connection.abandon(error, "connection_work_failed")
