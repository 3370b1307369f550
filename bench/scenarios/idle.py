"""Memory of an idle connection: 10,000 users with one connection each, all in one channel."""

from bench.load import Load
from bench.measures import pss_kib, usage_of
from bench.scenarios.scale import Scale
from bench.targets import Target

CONNECTIONS = 10_000
WARM = 50


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    connections = scale.of(CONNECTIONS)
    await load.connect(target.port, [target.path(10**6 + user) for user in range(WARM)])
    await scale.until_quiet(target.pid)
    paths = [target.path(user) for user in range(1, connections + 1)]
    before = pss_kib(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        await load.connect(target.port, paths)
    await scale.until_quiet(target.pid)
    grown = pss_kib(target.pid) - before
    return {
        "KiB per connection": round(grown / connections, 2),
        "connect in the crowd, µs": usage.cpu_us(connections),
    }
