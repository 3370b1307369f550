"""Our clock beside the bus's."""

from datetime import UTC, datetime

import pytest

from hubbub_client.jetstream.clock import ClockComparison, our_clock, trouble_with_clock
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from tests.fixtures.tokens import NOW, Clock
from tests.shared.jetstream.builders import a_stream


@pytest.mark.parametrize(
    ("told", "ahead"),
    [(NOW - 600, 600), (NOW, 0), (NOW + 1, 0), (NOW + 2, 0), (NOW + 602, -600)],
)
def test_a_clock_is_off_by_what_the_time_of_the_answer_cannot_explain(
    told: float, ahead: float
) -> None:
    clock = Clock()
    asked = ClockComparison(clock)
    clock.now += 2  # the answer took so long

    assert asked.ahead_seconds(datetime.fromtimestamp(told, UTC).isoformat()) == ahead


@pytest.mark.parametrize("told", [None, "", "noon", 7])
def test_a_server_that_does_not_tell_the_time_is_taken_to_agree(told: object) -> None:
    assert ClockComparison(Clock()).ahead_seconds(told) == 0


@pytest.mark.parametrize("off", [-600, -20, 20, 600])
async def test_the_leader_of_a_stream_tells_how_far_we_are_off(bus: Bus, off: float) -> None:
    stream = await a_stream(bus)

    wrong = await StreamReader(bus, stream, now=lambda: our_clock() + off).state()
    right = await StreamReader(bus, stream).state()

    assert wrong.clock_ahead_seconds == pytest.approx(off, abs=5)
    assert right.clock_ahead_seconds == pytest.approx(0, abs=5)


@pytest.mark.parametrize(
    ("ahead", "trouble"),
    [
        (0, []),
        (15, []),
        (-15, []),
        (600.4, ["the clock here is 600 s ahead of that of the bus"]),
        (-172_800, ["the clock here is 172800 s behind that of the bus"]),
    ],
)
def test_a_clock_that_is_off_by_more_than_the_bound_is_told(
    ahead: float, trouble: list[str]
) -> None:
    assert trouble_with_clock(ahead, at_most=15) == trouble
