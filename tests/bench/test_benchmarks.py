"""Every benchmark runs and gives the figures that it has goals for. How fast is not asked here."""

import pytest

from bench.load import start_load
from bench.rows import ROWS
from bench.scenarios.scale import Scale
from bench.servers import SERVERS


@pytest.mark.timeout(120)  # its one core may be busy
@pytest.mark.parametrize("server", SERVERS)
async def test_every_benchmark_runs_in_small(server: str) -> None:
    async with SERVERS[server]({}) as target:
        for name, row in ROWS.items():
            if server not in row.servers:
                continue
            async with start_load() as load:
                figures = await row.measure(target, load, Scale.TINY)

            assert figures.keys() >= row.goals.keys(), name
