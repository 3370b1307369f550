"""The servers that are measured, each started on a core of its own."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from bench.cores import SERVER_CORE, on_core
from bench.native import compiled
from bench.nats import start_nats
from bench.targets import Hubbub, Target
from bench.tokens import SECRET, start_issuer

START_SECONDS = 60.0
"""On its one core, which it may share meanwhile with whatever else runs."""
POLL_SECONDS = 0.05

ENVIRONMENT = {
    "HUBBUB_HMAC_SECRET": SECRET,
    "HUBBUB_API_KEY": "an API key of the benchmarks",
    "HUBBUB_LOG_LEVEL": "WARNING",
    "HUBBUB_GATEWAY_COMMANDS_PER_SECOND": "0",  # no limit: a few clients stand for many
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a gateway is measured."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Beside those of every benchmark."""
    synced: bool = True
    """See `bench.nats.start_nats`."""


ORDINARY = Conditions()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def _process(
    *command: str | Path, port: int, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[asyncio.subprocess.Process]:
    with on_core(SERVER_CORE):
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **(environment or {})}
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            await _until_listening(process, port)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_listening(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.returncode is not None:
                raise SystemExit("the server did not start") from None
            await asyncio.sleep(POLL_SECONDS)
        else:
            writer.close()
            return


async def _until_ready(port: int) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(START_SECONDS):
        while True:
            answer = await client.get(f"http://127.0.0.1:{port}/readyz")
            if answer.status_code == httpx2.codes.OK:
                return
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def floor(_conditions: Conditions) -> AsyncGenerator[Target]:
    """The C loop that sends ready bytes and nothing else."""
    port = _free_port()
    async with _process(await compiled("floor"), str(port), port=port) as process:
        yield Target(port, process.pid)


@asynccontextmanager
async def lesson(_conditions: Conditions) -> AsyncGenerator[Target]:
    """The in-process ConnectionManager on stock uvicorn."""
    port = _free_port()
    async with _process(sys.executable, "-m", "bench.lesson", str(port), port=port) as process:
        yield Target(port, process.pid, has_personal_channels=True)


@asynccontextmanager
async def hubbub(conditions: Conditions) -> AsyncGenerator[Target]:
    """One gateway process, with its nats-server and its issuer on the load's core."""
    port, nats_port = _free_port(), _free_port()
    command = (sys.executable, "-m", "hubbub", "gateway", "--port", str(port))
    with tempfile.TemporaryDirectory() as folder:
        async with (
            start_nats(Path(folder), port=nats_port, synced=conditions.synced) as nats_url,
            start_issuer() as issuer,
            _process(
                *command,
                port=port,
                environment={
                    **ENVIRONMENT,
                    "HUBBUB_NATS_URL": nats_url,
                    "HUBBUB_JWKS_URL": issuer.jwks_url,
                    **conditions.settings,
                },
            ) as process,
        ):
            await _until_ready(port)
            yield Hubbub(port, process.pid, nats_port=nats_port, issuer=issuer)


SERVERS: Mapping[str, Callable[[Conditions], AbstractAsyncContextManager[Target]]] = {
    "floor": floor,
    "lesson": lesson,
    "hubbub": hubbub,
}
