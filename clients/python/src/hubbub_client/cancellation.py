"""Whether the task that runs was cancelled, where an error may hide it."""

import asyncio


def is_cancelled() -> bool:
    """Whether somebody waits for the end of this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def end_if_cancelled() -> None:
    """For loops that go on after an error.

    If a task group is cancelled while one of its tasks fails, it raises the failure alone (until
    Python 3.12). Who goes on then is not cancelled again, and never ends.

    Raises:
        CancelledError: this task was cancelled.
    """
    if is_cancelled():
        raise asyncio.CancelledError
