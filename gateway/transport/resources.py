"""What all connections of one process share."""

import asyncio
from typing import Protocol

from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.limits import Limits
from gateway.transport.turns import Turns
from gateway.transport.unfinished import Unfinished


class Resources(Protocol):
    """Of whoever keeps the connections, as far as reading and writing are concerned."""

    loop: asyncio.AbstractEventLoop
    """Asked for once: on some versions of Python that costs a system call."""
    limits: Limits
    outgoing: WriteCoalescer
    stalled_bytes: int
    """Pending on all stalled connections."""
    turns: Turns
    unfinished: Unfinished
