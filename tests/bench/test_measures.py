"""CPU time is that of the whole process tree, and of nothing else."""

import asyncio
import sys

import psutil

from bench.measures import usage_of
from tests.fixtures.waiting import eventually

SPIN = "import time\ninput()\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()\n"
SPAWN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])"


async def test_a_childs_cpu_counts() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPAWN, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    await eventually(lambda: bool(psutil.Process(parent.pid).children()))
    async with usage_of(parent.pid) as usage:
        parent.stdin.write(b"\n")
        await parent.stdout.readline()
    parent.stdin.write(b"\n")
    await parent.wait()

    assert 0.2 <= usage.cpu_seconds <= 0.6
