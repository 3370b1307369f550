"""Drives the load generator, native/load.c, which shares a core with nats-server."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cores import LOAD_CORE, on_core
from bench.native import compiled

DEADLINE_SECONDS = 120.0
"""For one command; none takes half as long."""
HANDSHAKES_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one command."""

    seconds: float
    delivered: int
    answered: int
    stored: int
    reads: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    late_ms: float
    """The publisher's longest delay behind its schedule."""
    busy_percent: float
    """The load generator's share of its core."""


class LoadFailed(Exception):
    """The server refused, closed a connection, or did not do in time what the load waits for."""


class Load:
    """Clients and a publisher; one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def connect(
        self, port: int, paths: Sequence[str], *, at_once: int = HANDSHAKES_AT_ONCE
    ) -> Answer:
        """Open a connection for each path; return when all have got their `welcome`."""
        return await self._do(f"connect {port} {at_once} {self._file(paths)}")

    async def bus(self, port: int) -> None:
        """Publish to JetStream from now on, instead of with the first client."""
        await self._do(f"bus {port}")

    async def publish(
        self,
        publications: Sequence[tuple[str, str]],
        *,
        total: int,
        receivers: int,
        rate: int = 0,
        batch: int = 1,
        in_flight: int = 0,
    ) -> Answer:
        """Publish ``total`` of these (subject, payload) in turn; return when all have arrived.

        Args:
            rate: Publications a second; 0 for as many as ``in_flight`` allows.
            receivers: Clients that get each publication; 0 to wait only until it is stored.
        """
        file = self._file([f"{subject}\t{payload}" for subject, payload in publications])
        return await self._do(f"publish {total} {rate} {batch} {in_flight} {receivers} {file}")

    async def talk(self, template: str, *, total: int, in_flight: int) -> Answer:
        """Let the clients send messages; return when all are answered and delivered back."""
        return await self._do(f"talk {total} {in_flight} {self._file([chr(9) + template])}")

    async def stall(self, client: int) -> None:
        """Let the client stop reading."""
        await self._do(f"stall {client}")

    async def status(self) -> Answer:
        """What has come since the last command, such as publications of others."""
        return await self._do("status")

    async def reset(self) -> None:
        """End all connections without a close frame."""
        await self._do("reset")

    def _file(self, lines: Sequence[str]) -> Path:
        file = self._folder / "lines"
        file.write_text("\n".join(lines) + "\n")
        return file

    async def _do(self, command: str) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            self._process.stdin.write(b"status\n")
            so_far = await self._process.stdout.readline()
            raise LoadFailed(
                f"not done within {DEADLINE_SECONDS:g} s: {command}: {so_far.decode()}"
            ) from None
        if not line:
            raise LoadFailed(f"failed: {command}")
        return Answer(**json.loads(line))


@asynccontextmanager
async def start_load() -> AsyncGenerator[Load]:
    """Start a load generator, without connections."""
    with tempfile.TemporaryDirectory() as folder:
        binary = await compiled("load")
        with on_core(LOAD_CORE):
            process = await asyncio.create_subprocess_exec(
                binary, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        try:
            yield Load(process, Path(folder))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
