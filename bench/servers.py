"""Starts the servers that are measured, each on its own core."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2

from bench.cores import SERVER_CORE
from bench.native import compiled
from bench.nats import start_nats
from bench.processes import POLL_SECONDS, START_SECONDS, free_port, listening
from bench.targets import API_KEY, Hubbub, Target
from bench.tokens import SECRET, start_issuer

ENVIRONMENT = {
    "HUBBUB_HMAC_SECRET": SECRET,
    "HUBBUB_API_KEY": API_KEY,
    "HUBBUB_AWAIT_AUTH_SERVICE": "false",  # the issuer here has no sessions, so none ever end
    # Each client stands for many users, so its commands are not limited; the user's bucket is
    # still accounted for, but so large that it is never empty.
    "HUBBUB_GATEWAY_COMMANDS_PER_SECOND": "0",
    "HUBBUB_GATEWAY_USER_UNITS_PER_SECOND": "1e9",
    "HUBBUB_GATEWAY_USER_BURST": "1000000000",
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a gateway and its bus are configured for a benchmark."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables beside those of every benchmark."""
    synced: bool = True
    """See `bench.nats.start_nats`."""


ORDINARY = Conditions()


def _served(
    *command: str | Path, port: int, environment: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return listening(*command, port=port, core=SERVER_CORE, environment=environment)


async def _until_ready(port: int) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(START_SECONDS):
        while True:
            answer = await client.get(f"http://127.0.0.1:{port}/readyz")
            if answer.status_code == httpx2.codes.OK:
                return
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def floor(_conditions: Conditions) -> AsyncGenerator[Target]:
    """A loop in C that sends ready bytes and does nothing else."""
    port = free_port()
    async with _served(await compiled("floor"), str(port), port=port) as process:
        yield Target(port, process.pid)


@asynccontextmanager
async def lesson(_conditions: Conditions) -> AsyncGenerator[Target]:
    """The in-process ConnectionManager on stock uvicorn."""
    port = free_port()
    async with _served(sys.executable, "-m", "bench.lesson", str(port), port=port) as process:
        yield Target(port, process.pid, has_personal_channels=True)


@asynccontextmanager
async def hubbub(conditions: Conditions) -> AsyncGenerator[Target]:
    """One gateway process, with its nats-server and its issuer on the load's core."""
    nats_port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            start_nats(Path(folder), port=nats_port, synced=conditions.synced) as nats_url,
            start_issuer() as issuer,
        ):
            environment = {
                **ENVIRONMENT,
                "HUBBUB_NATS_URL": nats_url,
                "HUBBUB_JWKS_URL": issuer.jwks_url,
                **conditions.settings,
            }
            another = partial(_gateway, environment)
            async with another() as gateway:
                yield Hubbub(
                    gateway.port,
                    gateway.pid,
                    nats_port=nats_port,
                    issuer=issuer,
                    another=another,
                )


@asynccontextmanager
async def _gateway(environment: Mapping[str, str]) -> AsyncGenerator[Target]:
    port = free_port()
    command = (sys.executable, "-m", "hubbub", "gateway", "--port", str(port))
    async with _served(*command, port=port, environment=environment) as process:
        await _until_ready(port)
        yield Target(port, process.pid)


SERVERS: Mapping[str, Callable[[Conditions], AbstractAsyncContextManager[Target]]] = {
    "floor": floor,
    "lesson": lesson,
    "hubbub": hubbub,
}
