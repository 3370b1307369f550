"""An application on a real port, for as long as a test needs it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from gateway.engine.uvicorn_protocol import websocket_options
from shared.process import Server, listen, server_config

DEADLINE_SECONDS = 10.0


@asynccontextmanager
async def served(
    app: ASGIApp,
    *,
    drain: Callable[[], Awaitable[None]] | None = None,
    ping_seconds: float = 20,
    pong_seconds: float = 15,
) -> AsyncGenerator[int]:
    """Serve it on a free port, which is yielded; at the end stop as a process would."""
    options = websocket_options(
        max_frame_bytes=65536, ping_seconds=ping_seconds, pong_seconds=pong_seconds
    )
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
                stop.set()


async def until(condition: Callable[[], bool], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for something that must come true soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
