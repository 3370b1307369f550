"""An application on a real port, for as long as a test needs it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from shared.runtime.listening import listen
from shared.runtime.process import Server, server_config
from tests.fixtures.tcp import accept_no_more

DEADLINE_SECONDS = 10.0


@asynccontextmanager
async def served(
    app: ASGIApp,
    *,
    drain: Callable[[], Awaitable[None]] | None = None,
    options: Mapping[str, Any],
) -> AsyncGenerator[int]:
    """Serve it on a free port, which is yielded; at the end stop as a process would.

    Args:
        options: How its WebSockets want to be served.
    """
    stop = asyncio.Event()
    with listen("127.0.0.1", 0) as socket:
        config = server_config(app, forwarded_allow_ips="127.0.0.1", **options)
        server = Server(config, stop=stop, drain=drain)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[socket]))
            try:
                await until(lambda: server.started)
                yield socket.getsockname()[1]
            finally:
                for each in server.servers:
                    await accept_no_more(each)
                stop.set()


async def until(condition: Callable[[], bool], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for something that must come true soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
