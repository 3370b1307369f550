"""Clients of an SDK's protocol: what an idle one costs, its connect, and a delivery to it."""

from collections.abc import Sequence

from bench.load import Load
from bench.measures import pss_kib, usage_of
from bench.scenarios.connect import CONNECTS
from bench.scenarios.fan_out import PUBLICATIONS_PER_SECOND, SECONDS, TEXT_BYTES
from bench.scenarios.scale import Scale
from bench.targets import Hubbub, Target

CONNECTIONS = 10_000
LISTENERS = 1000
WARM = 50
CHANNELS = 10
TRANSPORTS = ("websocket", "sse", "http_stream")


async def idle(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """Memory of a connection with one channel, and of each further one, on WebSockets."""
    assert isinstance(target, Hubbub)
    connections = scale.of(CONNECTIONS)
    await _warm(target, load, scale)
    one = [target.sdk_line(user, ["news:lobby"]) for user in range(1, connections + 1)]
    with_one = await _grown(target, load, scale, one)
    # Beside those: freed memory would be used again, and not be seen to be needed.
    several = [
        target.sdk_line(user, [f"news:{user}-{number}" for number in range(CHANNELS)])
        for user in range(connections + 1, connections + connections // 2 + 1)
    ]
    with_several = await _grown(target, load, scale, several)
    return {
        "KiB per connection": round(with_one, 2),
        "KiB per further channel": round((with_several - with_one) / (CHANNELS - 1), 2),
    }


async def idle_streams(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """Memory of a stream over HTTP, beside that of a WebSocket."""
    assert isinstance(target, Hubbub)
    connections = scale.of(CONNECTIONS // 2)
    await _warm(target, load, scale)
    figures = {}
    for number, transport in enumerate(TRANSPORTS):  # beside each other, for the same reason
        users = range(1 + number * connections, 1 + (number + 1) * connections)
        lines = [target.sdk_line(user, [], transport) for user in users]
        figures[f"{transport}, KiB"] = round(await _grown(target, load, scale, lines), 2)
    return figures


async def connect(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """CPU time from accept until the subscription to one channel is answered."""
    assert isinstance(target, Hubbub)
    await _warm(target, load, scale)
    lines = [target.sdk_line(user, [f"news:{user}"]) for user in range(1, scale.of(CONNECTS) + 1)]
    async with usage_of(target.pid, target.profiler) as usage:
        await load.connect(target.port, lines)
    return {"HS256 and one channel, µs": usage.cpu_us(len(lines))}


async def fan_out(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """As `fan-out`, in the SDKs' frames."""
    assert isinstance(target, Hubbub)
    listeners = scale.of(LISTENERS)
    await target.prepare(load)
    lines = [target.sdk_line(user, ["chat:lobby"]) for user in range(1, listeners + 1)]
    await load.connect(target.port, lines)
    await scale.until_quiet(target.pid)
    async with usage_of(target.pid, target.profiler) as usage:
        answer = await load.publish(
            [target.publication(text_bytes=TEXT_BYTES)],
            total=scale.of(PUBLICATIONS_PER_SECOND * SECONDS),
            rate=PUBLICATIONS_PER_SECOND,
            receivers=listeners,
        )
    return {
        "µs per delivery": usage.cpu_us(answer.delivered),
        "p50, ms": round(answer.p50_ms, 3),
        "p99, ms": round(answer.p99_ms, 3),
    }


async def _warm(target: Hubbub, load: Load, scale: Scale) -> None:
    await load.connect(
        target.port, [target.sdk_line(10**6 + user, ["news:lobby"]) for user in range(WARM)]
    )
    await scale.until_quiet(target.pid)


async def _grown(target: Target, load: Load, scale: Scale, lines: Sequence[str]) -> float:
    """KiB for each of these connections."""
    before = pss_kib(target.pid)
    await load.connect(target.port, lines)
    await scale.until_quiet(target.pid)
    return (pss_kib(target.pid) - before) / len(lines)
