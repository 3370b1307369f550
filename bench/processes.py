"""Starts and ends the processes of a benchmark."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench.cores import on_core

START_SECONDS = 60.0
"""Enough on one core of a busy machine."""
POLL_SECONDS = 0.02


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def listening(
    *command: str | Path,
    port: int,
    core: int,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Start a process and wait until it listens on the port; kill it at the end.

    Raises:
        SystemExit: the process has exited.
    """
    output = subprocess.DEVNULL if quiet else None
    with on_core(core):
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **(environment or {})}, stdout=output, stderr=output
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _accepts(port):
                if process.returncode is not None:
                    raise SystemExit(f"{command[0]} did not start")
                await asyncio.sleep(POLL_SECONDS)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
