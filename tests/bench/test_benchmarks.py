"""Every benchmark runs and returns the figures that it has goals for, however high they are."""

import pytest

from bench.load import start_load
from bench.rows import ROWS
from bench.scenarios.scale import Scale
from bench.servers import ENVIRONMENT, ORDINARY, SERVERS
from gateway.settings import GatewaySettings
from shared.runtime.environment import environment_names


@pytest.mark.parametrize("server", SERVERS)
async def test_every_benchmark_runs_in_small(server: str) -> None:
    rows = {row.measure: row for row in ROWS.values() if server in row.servers}
    async with SERVERS[server](ORDINARY) as target:
        for measure, row in rows.items():
            async with start_load() as load:
                figures = await measure(target, load, Scale.TINY)

            assert figures.keys() >= row.goals.keys(), measure


@pytest.mark.parametrize("name", ROWS)
def test_its_settings_are_ones_that_the_gateway_has(name: str) -> None:
    settings = ENVIRONMENT.keys() | ROWS[name].conditions.settings.keys()

    assert settings <= set(environment_names(GatewaySettings))
