"""Saying what is going on, if it takes long."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import click

PATIENCE_SECONDS = 1.0


@contextmanager
def saying(what: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Generator[None]:
    """Print ``what`` if the body takes longer than ``patience_seconds``.

    A thread does it, as the body may block the event loop.
    """
    timer = threading.Timer(patience_seconds, click.echo, [f"… {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
