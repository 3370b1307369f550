"""Run the benchmarks: python -m bench [NAME …]; --help names the rest."""

import argparse
import fcntl
import json
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.cores import LOAD_CORE, on_core, take_precedence
from bench.load import LoadFailed, start_load
from bench.profiling import Profiler
from bench.rows import ROWS
from bench.scenarios.scale import Scale
from bench.servers import SERVERS
from bench.table import Figures, lines, warnings
from shared.runtime.telemetry import configure_logging

PROFILES = Path(tempfile.gettempdir()) / "hubbub-bench-profiles"


async def run_one(name: str, server: str, scale: Scale, *, stacks: Path | None = None) -> Figures:
    """Start the server and the load, measure once, and stop both; with ``stacks``, profile."""
    row = ROWS[name]
    async with SERVERS[server](row.conditions) as target, start_load() as load:
        if stacks is not None:
            target = replace(target, profiler=Profiler(target.pid, stacks))
        return await row.measure(target, load, scale)


def run_all(
    names: Sequence[str], servers: Sequence[str], *, scale: Scale, repeat: int, profile: bool
) -> dict[str, dict[str, list[Figures]]]:
    """Measure the servers in turns, so that noise of the machine hits all of them alike."""
    if profile:
        PROFILES.mkdir(exist_ok=True)
    runs: dict[str, dict[str, list[Figures]]] = {}
    for name in names:
        runs[name] = {server: [] for server in ROWS[name].servers if server in servers}
        for _ in range(repeat):
            for server, figures in runs[name].items():
                stacks = PROFILES / f"{name}-{server}.txt" if profile else None
                try:
                    figures.append(uvloop.run(run_one(name, server, scale, stacks=stacks)))
                    shown = "  ".join(f"{key}: {value:g}" for key, value in figures[-1].items())
                except* LoadFailed as failed:
                    shown = f"FAILED: {failed.exceptions}"
                print(f"{name}  {server}  {shown}", file=sys.stderr, flush=True)
    return runs


@contextmanager
def exclusive() -> Generator[None]:
    """Wait until no other benchmark runs, since each would disturb the other."""
    with (Path(tempfile.gettempdir()) / "hubbub-bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another benchmark to end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which benchmarks, of {', '.join(ROWS)}")
    parser.add_argument("--target", action="append", choices=sorted(SERVERS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="run N times; the best counts"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--first", action="store_true", help="real-time priority (root)")
    parser.add_argument("--profile", action="store_true", help="sample the server with py-spy")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ROWS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {list(ROWS)}")
    # SIGTERM ends it as Ctrl-C does, so that no server is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    configure_logging("WARNING", json=False)
    with exclusive(), on_core(LOAD_CORE):
        if options.first:
            take_precedence()
        runs = run_all(
            options.names or list(ROWS),
            options.target or list(SERVERS),
            scale=Scale.QUICK if options.quick else Scale.FULL,
            repeat=options.repeat,
            profile=options.profile,
        )
    print("\n".join([*lines(runs), *warnings(runs)]))
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
