"""The servers that are measured, each started on a core of its own."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import jwt

from bench.lesson import SECRET
from bench.load import pin
from hubbub.nats_child import nats_server
from shared.process import listen

API_KEY = "an API key of the benchmarks"
FRAME_BYTES = 120  # what a chat message of 40 bytes takes on the wire, about
SERVER_CORE = 0
START_SECONDS = 30


class Target:
    """A running server: where it listens, its process, and how it is spoken to."""

    def __init__(self, port: int, pid: int, marker: bytes = b'"type":"message"') -> None:
        self.port = port
        self.pid = pid
        self._marker = marker

    def path(self, user_id: int, room: str = "lobby") -> str:
        claims = {
            "sub": str(user_id),
            "name": f"User {user_id}",
            "exp": datetime.now(UTC) + timedelta(hours=1),
        }
        return f"/ws/chat?room={room}&token={jwt.encode(claims, SECRET, 'HS256')}"

    def is_message(self, payload: bytes) -> bool:
        return self._marker in payload


def _free_port() -> int:
    with listen("127.0.0.1", 0) as taken:
        return int(taken.getsockname()[1])


@asynccontextmanager
async def _process(
    command: list[str], port: int, **environment: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    try:
        pin(process.pid, SERVER_CORE)
        async with asyncio.timeout(START_SECONDS):
            await _until_listening(port)
        yield process
    finally:
        process.kill()
        await process.wait()


async def _until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _until_ready(port: int) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        while True:
            answer = await client.get(f"http://127.0.0.1:{port}/readyz")
            if answer.status_code == httpx2.codes.OK:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def floor() -> AsyncGenerator[Target]:
    """The C loop that does the same and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        binary, port = f"{folder}/floor", _free_port()
        source = Path(__file__).with_name("floor.c")
        compiler = await asyncio.create_subprocess_exec("cc", "-O2", "-o", binary, str(source))
        if await compiler.wait() != 0:
            raise SystemExit("the floor does not compile: is there a C compiler?")
        async with _process([binary, str(port), str(FRAME_BYTES)], port) as process:
            yield Target(port, process.pid, marker=b"xxxx")


@asynccontextmanager
async def lesson() -> AsyncGenerator[Target]:
    """The in-process ConnectionManager on stock uvicorn."""
    port = _free_port()
    async with _process([sys.executable, "-m", "bench.lesson", str(port)], port) as process:
        yield Target(port, process.pid)


@asynccontextmanager
async def gateway() -> AsyncGenerator[Target]:
    """One gateway process, with its nats-server on the load's core."""
    with tempfile.TemporaryDirectory() as folder:
        async with nats_server(Path(folder) / "nats") as nats:
            environment = {
                "HUBBUB_NATS_URL": nats.url,
                "HUBBUB_HMAC_SECRET": SECRET,
                "HUBBUB_API_KEY": API_KEY,
                "HUBBUB_LOG_LEVEL": "WARNING",
            }
            hubbub, port = [sys.executable, "-m", "hubbub"], _free_port()
            bootstrap = await asyncio.create_subprocess_exec(
                *hubbub, "bootstrap", env={**os.environ, **environment}
            )
            if await bootstrap.wait() != 0:
                raise SystemExit("the streams could not be made")
            command = [*hubbub, "gateway", "--host", "127.0.0.1", "--port", str(port)]
            async with _process(command, port, **environment) as process:
                async with asyncio.timeout(START_SECONDS):
                    await _until_ready(port)
                yield Target(port, process.pid)


TARGETS: dict[str, Callable[[], AbstractAsyncContextManager[Target]]] = {
    "floor": floor,
    "lesson": lesson,
    "hubbub": gateway,
}
