"""The child's half: it ends when its parent does, and tells it why it could not start."""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import click

from hubbub.failures import as_sentence

GRACE_SECONDS = 5.0
"""For stopping in order; then it stops without."""
CANNOT_SERVE = 78
"""The status of a child whose last words, on standard output, are a sentence for the operator.

Not 1, which is also Python's for a defect. Source: EX_CONFIG of BSD's sysexits.h.
"""


def stop_with_stdin() -> None:
    """Send ourselves SIGTERM once standard input, a pipe that only the parent holds, has ended."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


@contextmanager
def telling_parent() -> Generator[None]:
    """End with `CANNOT_SERVE` on a failure that an operator can do something about."""
    try:
        yield
    except Exception as error:
        sentence = as_sentence(error)
        if sentence is None:
            raise
        click.echo(sentence)
        sys.exit(CANNOT_SERVE)


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # of this thread only; the process usually ends before
    os._exit(1)
