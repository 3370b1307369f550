"""The child's half of dying with its parent: standard input ends when the parent does."""

import os
import signal
import threading
import time

GRACE_SECONDS = 5.0
"""For stopping in order; then it stops without."""


def stop_with_stdin() -> None:
    """Send ourselves SIGTERM once standard input, a pipe that only the parent holds, has ended."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # of this thread only; the process usually ends before
    os._exit(1)
