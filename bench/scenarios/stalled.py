"""One of 1,000 connections stops reading: the latency of the others, and the memory it costs.

First all read 50 publications a second. Then one stops, and its personal channel gets more than its
socket can hold, so that it is stalled when the same is measured again. Before the first part
another reader gets as much, so that the ring of recent publications (1 MiB here) is full and does
not count as memory of the stalled one.
"""

from bench.load import Answer, Load
from bench.measures import pss_kib
from bench.scenarios.scale import Scale
from bench.targets import Target

LISTENERS = 1000
PUBLICATIONS_PER_SECOND = 50
SECONDS = 12
"""Less than ``lag_seconds``, so that the stalled connection is not closed before the end."""
TEXT_BYTES = 64
FILLINGS = 96
FILLING_BYTES = 48 * 1024
"""All of them are 4.5 MiB: more than the buffers of the system and of the gateway."""
STALLED, READING = 0, 1

SETTINGS = {"HUBBUB_GATEWAY_RING_BYTES": str(1024 * 1024)}


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    listeners = scale.of(LISTENERS)
    await target.prepare(load)
    await load.connect(target.port, [target.path(user) for user in range(1, listeners + 1)])
    await _fill(target, load, client=READING, receivers=1)
    await scale.until_quiet(target.pid)
    before = await _fan_out(target, load, scale, receivers=listeners)
    memory = pss_kib(target.pid)
    await load.stall(STALLED)
    await _fill(target, load, client=STALLED, receivers=0)
    during = await _fan_out(target, load, scale, receivers=listeners - 1)
    return {
        "others' p99, ratio": round(during.p99_ms / before.p99_ms, 3),
        "others' p50, ratio": round(during.p50_ms / before.p50_ms, 3),
        "p99 before, ms": round(before.p99_ms, 3),
        "memory grown, KiB": pss_kib(target.pid) - memory,
    }


async def _fill(target: Target, load: Load, *, client: int, receivers: int) -> None:
    filling = target.publication(text_bytes=FILLING_BYTES, user_id=client + 1)
    await load.publish([filling], total=FILLINGS, in_flight=8, receivers=receivers)


async def _fan_out(target: Target, load: Load, scale: Scale, *, receivers: int) -> Answer:
    return await load.publish(
        [target.publication(text_bytes=TEXT_BYTES)],
        total=scale.of(PUBLICATIONS_PER_SECOND * SECONDS),
        rate=PUBLICATIONS_PER_SECOND,
        receivers=receivers,
    )
