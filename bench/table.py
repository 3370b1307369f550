"""Formats results as a table: each figure beside the floor's and its goal."""

from collections.abc import Mapping, Sequence
from statistics import median

from bench.rows import ROWS

Figures = Mapping[str, float]
Runs = Mapping[str, Mapping[str, Sequence[Figures]]]
"""For each benchmark and server, the figures of each repetition."""

HEAD = ("benchmark", "figure", "server", "best", "of", "floor", "ratio", "goal", "met")
WARNINGS = {
    "load busy, %": (90, "the load may have been the bottleneck"),
    "disturbed, %": (5, "something else used the server's core for a part of the time"),
}
"""Figures that make the others unreliable if they are above a limit."""
MORE_IS_BETTER = ("a second", "a read")


def best(name: str, runs: Sequence[Figures]) -> float:
    """The best run, as noise only adds cost; the median of ratios, which noise moves both ways."""
    values = [run[name] for run in runs]
    if name.endswith("ratio"):
        return median(values)
    return max(values) if name.endswith(MORE_IS_BETTER) else min(values)


def lines(runs: Runs) -> list[str]:
    """The table, aligned."""
    rows = [
        HEAD,
        *(row for benchmark, servers in runs.items() for row in _rows(benchmark, servers)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _rows(benchmark: str, servers: Mapping[str, Sequence[Figures]]) -> list[tuple[str, ...]]:
    measured = {server: runs for server, runs in servers.items() if runs}
    names = dict.fromkeys(name for runs in measured.values() for name in runs[0])
    found: list[tuple[str, ...]] = []
    for name in (name for name in names if name not in WARNINGS):
        values = {s: best(name, runs) for s, runs in measured.items() if name in runs[0]}
        floor = values.get("floor")
        for server, value in values.items():
            goal = ROWS[benchmark].goals.get(name) if server == "hubbub" else None
            met = goal.is_met(value, floor) if goal else None
            found.append(
                (
                    benchmark,
                    name,
                    server,
                    f"{value:g}",
                    str(len(measured[server])),
                    "" if floor is None else f"{floor:g}",
                    f"{value / floor:.2f}" if floor and server != "floor" else "",
                    "" if goal is None else str(goal),
                    "" if met is None else ("yes" if met else "NO"),
                )
            )
    return found


def warnings(runs: Runs) -> list[str]:
    """Why the figures may be wrong."""
    return [
        f"{benchmark}, {server}: {why} ({best(name, figures):g} %)"
        for benchmark, servers in runs.items()
        for server, figures in servers.items()
        for name, (limit, why) in WARNINGS.items()
        if figures and name in figures[0] and best(name, figures) > limit
    ]
