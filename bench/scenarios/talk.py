"""Messages of clients: received, published, stored, answered, and delivered back.

16 connections, each in a room of its own, with 8 messages in flight.
"""

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Target

CONNECTIONS = 16
IN_FLIGHT = 8
MESSAGES = 20_000
TEXT_BYTES = 64


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    await load.connect(
        target.port, [target.path(user, room=f"r{user}") for user in range(1, CONNECTIONS + 1)]
    )
    await scale.until_quiet(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        answer = await load.talk(
            target.message(text_bytes=TEXT_BYTES),
            total=scale.of(MESSAGES),
            in_flight=IN_FLIGHT,
        )
    return {
        "µs per message": usage.cpu_us(answer.answered),
        "messages a second": round(answer.answered / answer.seconds),
        "p50, ms": round(answer.p50_ms, 3),
        "p99, ms": round(answer.p99_ms, 3),
        "load busy, %": answer.busy_percent,
        "disturbed, %": usage.disturbed_percent,
    }
