"""Bursts: 16 publications at a time to 1,000 connections, faster than the event loop turns.

The next 16 are sent when at most 48 are in flight. So the server always has several to handle in
one turn, and buffers stay bounded.
"""

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Target

LISTENERS = 1000
AT_ONCE = 16
PUBLICATIONS = 120 * AT_ONCE
IN_FLIGHT = 4 * AT_ONCE
TEXT_BYTES = 64


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    listeners, total = scale.of(LISTENERS), scale.of(PUBLICATIONS)
    await target.prepare(load)
    await load.connect(target.port, [target.path(user) for user in range(1, listeners + 1)])
    await scale.until_quiet(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        answer = await load.publish(
            [target.publication(text_bytes=TEXT_BYTES)],
            total=total,
            batch=AT_ONCE,
            in_flight=IN_FLIGHT,
            receivers=listeners,
        )
    return {
        "µs per delivery": usage.cpu_us(answer.delivered),
        "frames a read": round(answer.delivered / answer.reads, 1),
        "publications a second": round(total / answer.seconds),
        "load busy, %": answer.busy_percent,
        "disturbed, %": usage.disturbed_percent,
    }
