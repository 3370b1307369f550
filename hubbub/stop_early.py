"""The signals at both ends of a process, where no event loop minds them."""

import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_stop_signals() -> None:
    """Until the loop takes them over: importing everything takes a second, and needs no undoing."""
    for number in _SIGNALS:
        signal.signal(number, _exit)


def ignore_stop_signals() -> None:
    """All is closed: a late Ctrl-C must not turn the last milliseconds into a failure."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
