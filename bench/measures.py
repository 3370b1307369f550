"""What is measured of a server: CPU of its process tree, memory as PSS, and time to receipt."""

from dataclasses import dataclass
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its living children."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in tree)


def pss_kib(pid: int) -> int:
    """Proportional set size of the process and its children; Linux only."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    total = 0
    for process in tree:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += int(rollup.split("Pss:")[1].split()[0])
    return total


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Percentiles":
        ordered = sorted(seconds)
        return cls(
            p50=round(ordered[len(ordered) // 2] * 1e3, 2),
            p99=round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, 2),
        )
