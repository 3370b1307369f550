"""CPU time of a reconnect that recovers 20 publications of its room, at `/ws/chat` and with an SDK.

All come back at once and have missed the same, as after the end of another gateway. A connect that
missed nothing is measured beside it: what is above that is the recovery.
"""

from collections.abc import Sequence

from bench.load import Load
from bench.measures import usage_of
from bench.scenarios.scale import Scale
from bench.targets import Hubbub, Target
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.publications import Publication, Sender
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.api import StreamState
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus

CONNECTS = 3000
MISSED = 20
TEXT_BYTES = 120
WARM = 100
ROOM = room_channel("lobby")

BELOW_THE_RING = {"HUBBUB_GATEWAY_RING_MESSAGES": "5"}


async def measure(target: Target, load: Load, scale: Scale) -> dict[str, float]:
    assert isinstance(target, Hubbub)
    connects = scale.of(CONNECTS)
    before, after = await _publish(target)
    await load.connect(target.port, [target.path(10**6 + user) for user in range(WARM)])
    await scale.until_quiet(target.pid)

    figures: dict[str, float] = {}
    for name, since in (("nothing missed", after.last), ("recovering", before.last)):
        place = f"since={since}&epoch={after.epoch}"
        paths = [f"{target.path(user)}&{place}" for user in range(1, connects + 1)]
        figures[f"{name}, µs"] = await _connect(target, load, scale, paths)
        position = {"recover": True, "offset": since, "epoch": after.epoch}
        lines = [
            target.sdk_line(user, [ROOM], position=position) for user in range(1, connects + 1)
        ]
        figures[f"{name}, SDK, µs"] = await _connect(target, load, scale, lines)
    return figures


async def _publish(target: Hubbub) -> tuple[StreamState, StreamState]:
    """Publish what will be missed; return how the stream was before and after.

    The load counts what has a stamp as delivered, and not as an answer: so this has none.
    """
    said = Publication({"body": TEXT_BYTES * "x"}, Sender(UserId("1"), "user-1")).encode()
    async with (
        connect_bus(f"nats://127.0.0.1:{target.nats_port}", name="bench") as bus,
        start_publisher(bus) as publisher,
    ):
        await bus.until_connected()
        reader = StreamReader(bus, "RT")
        before = await reader.state()
        for number in range(MISSED):
            subject = publication_subject(ROOM)
            await publisher.publish(subject, said, message_id=f"missed {number}")
        return before, await reader.state()


async def _connect(target: Target, load: Load, scale: Scale, lines: Sequence[str]) -> float:
    async with usage_of(target.pid, target.profiler) as usage:
        await load.connect(target.port, lines)
        await scale.until_quiet(target.pid)
    await load.reset()
    await scale.until_forgotten(target.pid)
    return usage.cpu_us(len(lines))
