"""Fan-out to 1,000 connections, 50 publications a second: CPU time and latency of a delivery.

The load publishes directly on the bus, so only deliveries are measured.
"""

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Target

LISTENERS = 1000
PUBLICATIONS_PER_SECOND = 50
SECONDS = 10
TEXT_BYTES = 64


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    listeners = scale.of(LISTENERS)
    total = scale.of(PUBLICATIONS_PER_SECOND * SECONDS)
    await target.prepare(load)
    await load.connect(target.port, [target.path(user) for user in range(1, listeners + 1)])
    await scale.until_quiet(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        answer = await load.publish(
            [target.publication(text_bytes=TEXT_BYTES)],
            total=total,
            rate=PUBLICATIONS_PER_SECOND,
            receivers=listeners,
        )
    return {
        "µs per delivery": usage.cpu_us(answer.delivered),
        "p50, ms": round(answer.p50_ms, 3),
        "p99, ms": round(answer.p99_ms, 3),
        "load busy, %": answer.busy_percent,
        "disturbed, %": usage.disturbed_percent,
    }
