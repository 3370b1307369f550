"""CPU time of a publication over the server API, delivered to one client: alone, and in batches.

Eight connections are kept and have one request each under way. `refused` is a publication into a
channel that does not exist: all that HTTP costs, without the bus and without a delivery.
"""

import asyncio
import json
from collections.abc import Mapping
from statistics import quantiles

from bench.load import Load
from bench.measures import usage_of
from bench.posts import Posts, open_posts, post
from bench.scenarios.scale import Scale
from bench.targets import API_KEY, STAMP, Hubbub, Target
from hubbub_client.contracts.channels import room_channel

PUBLICATIONS = 10_000
IN_A_BATCH = 100
WARM = 100
TEXT_BYTES = 64
POLL_SECONDS = 0.02
ARRIVE_SECONDS = 20.0

ROOM = room_channel("lobby")
NOWHERE = "nowhere:lobby"


async def publish(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """One publication a request."""
    total = scale.of(PUBLICATIONS)
    request = _request("publish", _publication(ROOM))
    async with open_posts(target.port) as posts:
        figures = await _measure(target, load, posts, request, requests=total)
        if isinstance(target, Hubbub):
            refused = _request("publish", _publication(NOWHERE))
            await posts.send(refused, total=WARM, expected=b'"code":102')
            async with usage_of(target.pid, target.profiler) as usage:
                await posts.send(refused, total=total, expected=b'"code":102')
            figures["refused, µs"] = usage.cpu_us(total)
    return figures


async def batch(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    """A hundred publications a request: one after the other, and all at the same time."""
    requests = max(scale.of(PUBLICATIONS) // IN_A_BATCH, 1)
    commands = [{"publish": _publication(ROOM)}] * IN_A_BATCH
    figures: dict[str, float] = {}
    async with open_posts(target.port) as posts:
        for name, parallel in (("", False), ("parallel, ", True)):
            request = _request("batch", {"commands": commands, "parallel": parallel})
            measured = await _measure(
                target, load, posts, request, requests=requests, each=IN_A_BATCH
            )
            figures |= {f"{name}{figure}": value for figure, value in measured.items()}
    return figures


async def _measure(
    target: Target, load: Load, posts: Posts, request: bytes, *, requests: int, each: int = 1
) -> dict[str, float]:
    await load.reset()
    await load.connect(target.port, [target.path(1)])
    await posts.send(request, total=max(WARM // each, 1), expected=b"offset")
    await _until_delivered(load, max(WARM // each, 1) * each)
    before = await _delivered(load)
    async with usage_of(target.pid, target.profiler) as usage:
        seconds = await posts.send(request, total=requests, expected=b"offset")
        await _until_delivered(load, before + requests * each)
    return {
        "µs per publication": usage.cpu_us(requests * each),
        "p50, ms": round(1e3 * quantiles(seconds * 2)[1], 3),
        "publications a second": round(requests * each / usage.seconds),
        "disturbed, %": usage.disturbed_percent,
    }


async def _delivered(load: Load) -> int:
    return (await load.status()).delivered


async def _until_delivered(load: Load, count: int) -> None:
    async with asyncio.timeout(ARRIVE_SECONDS):
        while await _delivered(load) < count:  # noqa: ASYNC110 another process counts them
            await asyncio.sleep(POLL_SECONDS)


def _publication(channel: str) -> Mapping[str, object]:
    return {"channel": channel, "data": {"text": STAMP.ljust(TEXT_BYTES, "x")}}


def _request(method: str, body: object) -> bytes:
    return post(f"/api/{method}", json.dumps(body).encode(), f"X-API-Key: {API_KEY}")
