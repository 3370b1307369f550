"""CPU cores: the measured server has one for itself, the rest of a benchmark shares another.

On request all of it gets a real-time priority. A busy machine then measures about as well as an
idle one, but does hardly anything else meanwhile.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

SERVER_CORE = 0
LOAD_CORE = 1


@contextmanager
def on_core(core: int) -> Generator[None]:
    """Pin processes that are started in the body to this core, if the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def take_precedence() -> None:
    """Give this process and those that it starts a real-time priority.

    Raises:
        SystemExit: not allowed; only root is.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):
        raise SystemExit("--first needs Linux and root") from None
