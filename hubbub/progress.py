"""Saying what takes long, and only that."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import click

PATIENCE_SECONDS = 1.0


@contextmanager
def saying(what: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Generator[None]:
    """Print ``what`` once the body has taken longer than a newcomer waits without a word.

    By a thread: the body may keep the event loop to itself.
    """
    timer = threading.Timer(patience_seconds, click.echo, [f"… {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
