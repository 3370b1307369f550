"""Run the benchmarks: python -m bench [NAME …] [--target …] [--quick]."""

import argparse
import os
from collections.abc import Awaitable, Callable

import uvloop

from bench import scenarios
from bench.load import pin
from bench.servers import TARGETS, Target

Scenario = Callable[[Target], Awaitable[dict[str, float]]]


def _scenarios(quick: bool) -> dict[str, tuple[tuple[str, ...], Scenario]]:
    share = 10 if quick else 1
    return {
        "fan-out": (
            ("floor", "lesson", "hubbub"),
            lambda t: scenarios.fan_out(t, listeners=1000 // share, rate=50, seconds=10),
        ),
        "idle": (
            ("lesson", "hubbub"),
            lambda t: scenarios.idle(t, connections=5000 // share),
        ),
        "publish-ws": (
            ("hubbub",),
            lambda t: scenarios.publish_ws(
                t, connections=16, in_flight=8, messages=20_000 // share
            ),
        ),
        "publish-http": (
            ("hubbub",),
            lambda t: scenarios.publish_http(t, callers=32, messages=5000 // share),
        ),
        "last-of-100": (
            ("floor", "lesson", "hubbub"),
            lambda t: scenarios.last_of_100(t, messages=1000 // share),
        ),
    }


async def _measure(kind: str, scenario: Scenario) -> dict[str, float]:
    async with TARGETS[kind]() as target:
        return await scenario(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which benchmarks (default: all)")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    options = parser.parse_args()
    known = _scenarios(options.quick)
    if unknown := set(options.names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {list(known)}")
    pin(os.getpid(), 1)
    for name in options.names or known:
        targets, scenario = known[name]
        for kind in targets:
            if options.target and kind not in options.target:
                continue
            figures = uvloop.run(_measure(kind, scenario))
            shown = "  ".join(f"{key} {value}" for key, value in figures.items())
            print(f"{name:13} {kind:8} {shown}", flush=True)


if __name__ == "__main__":
    main()
