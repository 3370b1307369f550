"""Profiles a server while it is measured, with py-spy, and prints where its time went."""

import asyncio
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

SAMPLES_PER_SECOND = 250
SHOWN = 25
ALWAYS_THERE = 0.95
"""Share of samples above which a frame is left out: those around the loop say nothing."""
ATTACH_SECONDS = 2.0
WRITE_SECONDS = 60.0

_LINE = re.compile(r":\d+(?=\)$)")


class Profiler:
    """Samples one process each time it is measured."""

    def __init__(self, pid: int, stacks: Path) -> None:
        """``stacks`` names a file for the stacks and their counts, one a line, as flamegraph.pl,
        inferno and speedscope read them. Each measurement adds a number to that name."""
        self._pid = pid
        self._stacks = stacks
        self._runs = 0

    @asynccontextmanager
    async def sampling(self) -> AsyncGenerator[None]:
        """Sample while the body runs, and print a summary.

        Raises:
            SystemExit: there is no py-spy.
        """
        self._runs += 1
        stacks = self._stacks.with_suffix(f".{self._runs}.txt")
        command = ["py-spy"] if shutil.which("py-spy") else ["uvx", "py-spy"]
        if shutil.which(command[0]) is None:
            raise SystemExit("a profile needs py-spy: `uv tool install py-spy`")
        sampler = await asyncio.create_subprocess_exec(
            *command, "record", "--pid", str(self._pid), "--rate", str(SAMPLES_PER_SECOND),
            "--format", "raw", "--native", "--output", str(stacks),
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        await asyncio.sleep(ATTACH_SECONDS)
        try:
            yield
        finally:
            if sampler.returncode is None:
                os.killpg(sampler.pid, signal.SIGINT)  # to the group, since uvx does not pass it on
            async with asyncio.timeout(WRITE_SECONDS):
                await sampler.wait()
        print("\n".join([f"=== {stacks}", *summary(stacks.read_text())]), flush=True)


def summary(stacks: str) -> list[str]:
    """The functions with the most time, without and with the functions that they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_LINE.sub("", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = max(sum(own.values()), 1)
    return [
        line
        for title, counter in (("in itself", own), ("with what it calls", whole))
        for line in (
            f"--- {title}, of {total} samples",
            *(
                f"{100 * n / total:5.1f} %  {frame}"
                for frame, n in [
                    (frame, n) for frame, n in counter.most_common() if n < ALWAYS_THERE * total
                ][:SHOWN]
            ),
        )
    ]
