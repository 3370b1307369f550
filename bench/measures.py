"""Measures a server: CPU and memory of its process tree, and how long it waited for its core."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.profiling import Profiler

QUIET_SHARE = 0.03
"""Of a core. A server that uses less is idle."""
SETTLE_SECONDS = 60.0
SYNCS = 51


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its living children, to the nanosecond.

    On Linux every process has a CPU clock, whose id is made of the pid as in the kernel's
    include/linux/posix-timers.h. Threads that have ended count too.
    """
    return sum(time.clock_gettime((~each << 3) | 2) for each in _tree(pid))


def pss_kib(pid: int) -> int:
    """Proportional set size of the process and its children."""
    total = 0
    for each in _tree(pid):
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        total += int(rollup.split("Pss:")[1].split()[0])
    return total


def waited_seconds(pid: int) -> float:
    """How long its threads were ready to run while something else used the core."""
    total = 0
    for each in _tree(pid):
        for thread in Path(f"/proc/{each}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[1])
    return total / 1e9


def _tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def disk_sync_ms() -> float:
    """The median time of an fsync after a small write, on the disk of the benchmarks' streams."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(bytes(256))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return round(median(times) * 1e3, 3)


@dataclass(slots=True)
class Usage:
    """What a server used while it was measured."""

    cpu_seconds: float = 0.0
    seconds: float = 0.0
    waited_seconds: float = 0.0

    def cpu_us(self, count: float) -> float:
        """CPU time for each of ``count`` things."""
        return round(self.cpu_seconds / count * 1e6, 3)

    @property
    def disturbed_percent(self) -> float:
        """Share of the time in which the server waited for its core; above a few, measure again."""
        return round(100 * self.waited_seconds / self.seconds, 1) if self.seconds else 0.0


@asynccontextmanager
async def usage_of(pid: int, profiler: Profiler | None = None) -> AsyncGenerator[Usage]:
    """Measure the body; the result is set when it ends. A profiler makes the server slower."""
    usage = Usage()
    async with nullcontext() if profiler is None else profiler.sampling():
        waited, cpu, began = waited_seconds(pid), cpu_seconds(pid), time.perf_counter()
        yield usage
        usage.cpu_seconds = cpu_seconds(pid) - cpu
        usage.seconds = time.perf_counter() - began
        usage.waited_seconds = waited_seconds(pid) - waited


async def until_quiet(pid: int, *, window_seconds: float, at_least: float = 0.0) -> None:
    """Wait ``at_least`` seconds, and then until the server was idle for one window."""
    await asyncio.sleep(at_least)
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            before = cpu_seconds(pid)
            await asyncio.sleep(window_seconds)
            if cpu_seconds(pid) - before < QUIET_SHARE * window_seconds:
                return
