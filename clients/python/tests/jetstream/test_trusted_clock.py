"""Whose clock may say what is so old that it is deleted."""

import pytest

from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.trusted_clock import SETTLE_SECONDS, TrustedClock
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import StartServer

DAYS = 172_800


MAX_OFFSET_SECONDS = 15


class Clocks:
    """Of a machine: one that can be set, and one that can't."""

    def __init__(self, *, off: float = 0) -> None:
        self.off = off
        self._uptime = 0.0

    def now(self) -> float:
        return our_clock() + self.off

    def monotonic(self) -> float:
        return our_clock() + self._uptime

    def jump(self, seconds: float) -> None:
        """That of the bus as well: it is on the same machine."""
        self._uptime -= seconds

    async def resolve_duplicate(self, clock: TrustedClock, seconds: float) -> None:
        """Have time go by, in steps so small that the other clock may stand still."""
        for _ in range(round(seconds / MAX_OFFSET_SECONDS)):
            assert not await clock.is_right()
            self._uptime += MAX_OFFSET_SECONDS


@pytest.fixture
async def with_streams(bus: Bus) -> Bus:
    await bootstrap(bus)
    return bus


def trusted(bus: Bus, clocks: Clocks) -> TrustedClock:
    return TrustedClock(
        bus,
        max_offset_seconds=MAX_OFFSET_SECONDS + 0.5,
        now=clocks.now,
        monotonic=clocks.monotonic,
    )


@pytest.mark.parametrize("off", [0, 10, -10])
async def test_a_clock_is_right_as_long_as_it_agrees_with_that_of_the_bus(
    with_streams: Bus, off: float
) -> None:
    assert await trusted(with_streams, Clocks(off=off)).is_right()


@pytest.mark.parametrize("off", [DAYS, 600, -600, -DAYS])
async def test_a_clock_that_is_off_since_the_start_is_not_right_until_it_is_put_right(
    with_streams: Bus, off: float
) -> None:
    clocks = Clocks(off=off)
    clock = trusted(with_streams, clocks)
    assert not any([await clock.is_right() for _ in range(3)])

    clocks.off = 0
    await clocks.resolve_duplicate(clock, SETTLE_SECONDS)

    assert await clock.is_right()


@pytest.mark.parametrize("jump", [DAYS, -DAYS])
async def test_a_clock_that_has_jumped_is_not_right_until_it_has_settled_whatever_the_bus_says(
    with_streams: Bus, jump: float
) -> None:
    clocks = Clocks()
    clock = trusted(with_streams, clocks)
    assert await clock.is_right()

    for there_and_back in (jump, -jump):
        clocks.jump(there_and_back)
        await clocks.resolve_duplicate(clock, SETTLE_SECONDS / 2)
    await clocks.resolve_duplicate(clock, SETTLE_SECONDS / 2)

    assert await clock.is_right()


async def test_a_clock_is_not_right_where_the_bus_can_not_be_asked(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        clock = trusted(bus, Clocks())
        assert await clock.is_right()

        server.stop()

        assert not await clock.is_right()
