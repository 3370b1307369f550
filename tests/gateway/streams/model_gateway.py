"""A gateway's view of a model stream, which goes on whenever something is awaited."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.errors import StopTest

from gateway.streams.feed import Reason
from gateway.streams.ring import Ring
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_PUB
from tests.gateway.streams.model_stream import BEGAN_AT, ModelStream

T = TypeVar("T")

CHANNELS = [ChannelName("chat:a"), ChannelName("chat:b"), ChannelName("#1")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run what draws in several tasks: an end of the example by Hypothesis comes back alone."""
    try:
        return asyncio.run(work)
    except BaseExceptionGroup as group:
        ended: BaseException = group.subgroup(StopTest) or group
        while isinstance(ended, BaseExceptionGroup):
            ended = ended.exceptions[0]
        raise ended from None


class ModelFeed:
    """What a `gateway.streams.feed.Feed` says of itself, which is told what has come."""

    def __init__(self, stream: ModelStream, *, ring_size: int = 100) -> None:
        self.stream = stream
        self.ring = Ring(max_count=ring_size, max_bytes=10_000)
        self.resets = 0
        self.last_reset = Reason.TOO_OLD
        self.epoch = stream.epoch
        self.position = 0

    def begin_here(self) -> None:
        """As after a start: nothing of what was before is in the ring."""
        self.ring.clear()
        self.position = self.stream.last

    def begin_anew(self) -> None:
        """The stream is another one, and the follower has found out."""
        self.resets += 1
        self.last_reset = Reason.EPOCH
        self.epoch = self.stream.epoch = "epoch-2"
        self.ring.clear()


class World(ModelFeed):
    """A stream, and one gateway that follows it at its own pace."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        stream = ModelStream(lag=self._draw_lag, meanwhile=self.go_on)
        super().__init__(stream, ring_size=data.draw(st.integers(1, 8)))
        self.steps_left = data.draw(st.integers(0, 25))
        self.may_drop = data.draw(st.booleans())
        self.may_lag = True
        self.on_delivered: list[Callable[[int, ChannelName], None]] = []
        self.steps = 0
        self.reset_at_step: int | None = None

    def publish(self, count: int) -> None:
        for channel in self.data.draw(
            st.lists(st.sampled_from(CHANNELS), min_size=count, max_size=count)
        ):
            self.stream.add(channel, b"%d" % self.stream.last)

    def deliver(self, count: int) -> None:
        """The follower hears of the next ones; whoever is live gets them at once."""
        for message in self.stream.messages[self.position : self.position + count]:
            channel = ChannelName(message.subject.removeprefix(RT_PUB))
            self.position = message.sequence
            self.ring.append(
                StoredPublication(message.sequence, channel, message.payload, message.time)
            )
            for hear in self.on_delivered:
                hear(message.sequence, channel)

    def now(self) -> float:
        """A publication a second."""
        return BEGAN_AT.timestamp() + self.stream.last

    async def go_on(self) -> None:
        """Some of everything, for as long as there are steps left."""
        await asyncio.sleep(0)
        self.steps += 1
        if self.steps == self.reset_at_step:
            self.begin_anew()
        if self.steps_left <= 0:
            return
        self.steps_left -= 1
        self.publish(self.data.draw(st.integers(0, 3)))
        self.deliver(self.data.draw(st.integers(0, 4)))
        if self.may_drop and self.data.draw(st.integers(0, 9)) == 0:
            self.stream.drop(self.data.draw(st.integers(0, min(5, self.position))))

    def _draw_lag(self) -> int:
        may_lag = self.may_lag and self.steps_left > 0
        return self.data.draw(st.sampled_from([0, 1, 3, 6])) if may_lag else 0
