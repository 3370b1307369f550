"""Fan-out to one: personal channels of 1,000 users, eight publications in flight.

CPU time is that of the gateway alone. Each publication is stored on disk before it is delivered.
"""

from bench.load import Load
from bench.measures import disk_sync_ms, usage_of
from bench.scenarios.scale import Scale
from bench.targets import Hubbub, Target

USERS = 1000
PUBLICATIONS = 20_000
IN_FLIGHT = 8
TEXT_BYTES = 64


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    users = range(1, scale.of(USERS) + 1)
    await target.prepare(load)
    await load.connect(target.port, [target.path(user) for user in users])
    await scale.until_quiet(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        answer = await load.publish(
            [target.publication(text_bytes=TEXT_BYTES, user_id=user) for user in users],
            total=scale.of(PUBLICATIONS),
            in_flight=IN_FLIGHT,
            receivers=1,
        )
    stored = {"a sync of the disk, ms": disk_sync_ms()} if isinstance(target, Hubbub) else {}
    return {
        "µs per delivery": usage.cpu_us(answer.delivered),
        "p50, ms": round(answer.p50_ms, 3),
        "p99, ms": round(answer.p99_ms, 3),
        "publications a second": round(answer.delivered / answer.seconds),
        **stored,
        "load busy, %": answer.busy_percent,
        "disturbed, %": usage.disturbed_percent,
    }
