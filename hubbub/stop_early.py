"""Stop signals before the event loop starts, and after it has ended."""

import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_stop_signals() -> None:
    """Exit on them while modules are imported; later the event loop handles them."""
    for number in _SIGNALS:
        signal.signal(number, _exit)


def ignore_stop_signals() -> None:
    """Everything is closed, so a late Ctrl-C must not cause a failure."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
