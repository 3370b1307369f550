"""Who runs where: the measured server alone on one core, all the rest of a benchmark on the other.

On request all of it also runs before whatever else the machine does. That makes a busy machine
about as good to measure on as a quiet one, and a bad one to do anything else on meanwhile.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

SERVER_CORE = 0
LOAD_CORE = 1


@contextmanager
def on_core(core: int) -> Generator[None]:
    """Processes that are started in the body run on this core alone, where the system can."""
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
    """Run this process, and those it starts, before all that has no real-time priority.

    Raises:
        SystemExit: only root may.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):
        raise SystemExit("only root on Linux may go before others") from None
