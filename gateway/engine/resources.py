"""What all connections of one process share."""

import asyncio
from typing import Protocol

from gateway.engine.limits import Limits
from gateway.engine.outgoing import Outgoing
from gateway.engine.turns import Turns
from gateway.engine.unfinished import Unfinished


class Resources(Protocol):
    """Of whoever keeps the connections, as far as reading and writing are concerned."""

    loop: asyncio.AbstractEventLoop
    """Asked for once: on some versions of Python that costs a system call."""
    limits: Limits
    outgoing: Outgoing
    stalled_bytes: int
    """Pending on all stalled connections."""
    turns: Turns
    unfinished: Unfinished
