"""CPU time of a connect, from accept to `welcome`, with each kind of token, and of a reconnect.

Each user connects to a separate room, so that nobody else is told, though presence is written.
`again` are reconnects with the same tokens after all connections were lost, as when a proxy is
restarted.
"""

from collections.abc import Sequence

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Hubbub, Target

CONNECTS = 3000
WARM = 100


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    connects = scale.of(CONNECTS)
    users = range(1, connects + 1)
    await load.connect(target.port, [_path(target, 10**6 + user) for user in range(WARM)])
    await scale.until_quiet(target.pid)
    paths = [_path(target, user) for user in users]
    figures = {"HS256, µs": await _connect(target, load, paths)}
    await load.reset()
    await scale.until_quiet(target.pid)
    figures["again, µs"] = await _connect(target, load, paths)
    if isinstance(target, Hubbub):
        await load.reset()
        await scale.until_forgotten(target.pid)
        signed = [target.eddsa_path(user, room=f"r{user}") for user in users]
        figures["EdDSA, µs"] = await _connect(target, load, signed)
    else:
        figures["EdDSA, µs"] = figures["HS256, µs"]  # these servers check one kind or none
    return figures


def _path(target: Target, user_id: int) -> str:
    return target.path(user_id, room=f"r{user_id}")


async def _connect(target: Target, load: Load, paths: Sequence[str]) -> float:
    async with usage_of(target.pid, target.profiler) as usage:
        await load.connect(target.port, paths)
    return usage.cpu_us(len(paths))
