"""Something that runs beside the body of an `async with`, and what either of the two raises."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Run the work during the body, and cancel it at its end.

    If one of them raises, the other is cancelled, and the exception is raised as it is: a task
    group alone would wrap it.
    """
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield task
            except Exception as error:
                failure = error  # raised below, as the group would wrap it
            finally:
                task.cancel()
    except ExceptionGroup as of_the_work:
        failure = failure or of_the_work.exceptions[0]  # of the only task
    if failure is not None:
        raise failure
