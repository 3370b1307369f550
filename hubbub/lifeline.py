"""The child's side: it ends when its parent does, and reports why it could not start."""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import click

GRACE_SECONDS = 5.0
"""For an orderly stop; then the process exits at once."""
CANNOT_SERVE = 78
"""The exit status of a child whose output ends with a message for the operator.

Not 1, which Python uses for an exception. Source: EX_CONFIG of BSD's sysexits.h.
"""


def stop_with_stdin() -> None:
    """Send ourselves SIGTERM when standard input ends, a pipe that only the parent holds."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


@contextmanager
def telling_parent() -> Generator[None]:
    """Exit with `CANNOT_SERVE` on a failure that an operator can fix."""
    try:
        yield
    except Exception as error:
        from hubbub.failures import as_sentence  # it knows many parts

        sentence = as_sentence(error)
        if sentence is None:
            raise
        click.echo(sentence)
        sys.exit(CANNOT_SERVE)


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # this thread only; the process usually ends before
    os._exit(1)
