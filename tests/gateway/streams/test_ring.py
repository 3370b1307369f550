"""The ring, compared with a list of everything that was published."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.streams.ring import NOTHING, Ring
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication

CHANNELS = [ChannelName(f"chat:{name}") for name in "abc"]

channels = st.sampled_from(CHANNELS)
channel_sets = st.sets(channels, min_size=1)


class RingMachine(RuleBasedStateMachine):
    """The ring returns all publications above the floor, for any set of channels, in order."""

    @initialize(
        max_count=st.integers(1, 8),
        max_bytes=st.integers(1, 60),
        earlier=st.lists(channels, max_size=10),
    )
    def begin(self, max_count: int, max_bytes: int, earlier: list[ChannelName]) -> None:
        self.max_count, self.max_bytes = max_count, max_bytes
        self.ring = Ring(max_count=max_count, max_bytes=max_bytes)
        self.everything = [
            StoredPublication(offset, channel, b"earlier")
            for offset, channel in enumerate(earlier, start=1)
        ]
        self.position = self.given_after = len(earlier)

    @rule(channel=channels, size=st.integers(0, 20), skipped=st.integers(0, 2))
    def publish(self, channel: ChannelName, size: int, skipped: int) -> None:
        if self.ring.floor == NOTHING:
            self.given_after = self.position + skipped
        self.position += 1 + skipped
        self.everything.append(StoredPublication(self.position, channel, bytes(size)))
        self.ring.append(self.everything[-1])

    @rule(span=st.integers(1, 6))
    def read_back(self, span: int) -> None:
        end = min(self.ring.floor, self.position)
        begin = max(end - span, 0)
        between = [each for each in self.everything if begin < each.offset <= end]

        had_room = self.ring.extend_back(begin, between)

        assert had_room == (self.ring.floor == begin)
        self.given_after = begin

    @rule()
    def begin_anew(self) -> None:
        self.ring.clear()
        self.given_after = self.position

    @rule(wanted=channel_sets, back=st.integers(0, 12))
    def read_what_comes_after(self, wanted: set[ChannelName], back: int) -> None:
        offset = max(self.position - back, 0)
        expected = [
            each for each in self._held() if each.channel in wanted and each.offset > offset
        ]

        assert list(self.ring.after(wanted, offset)) == expected
        assert self.ring.count_after(wanted, offset) == len(expected)
        for channel in wanted:
            of_one = [each for each in expected if each.channel == channel]
            assert self.ring.all_after(channel, offset) == of_one

    @rule(channel=channels, count=st.integers(1, 6))
    def read_the_last(self, channel: ChannelName, count: int) -> None:
        of_channel = [each for each in self.everything if each.channel == channel]
        found = self.ring.last(channel, count)

        held = [each for each in self._held() if each.channel == channel]
        if len(held) >= count or self.ring.floor == 0:
            assert found == of_channel[-count:]
        else:
            assert found is None

    @invariant()
    def it_is_bounded_and_evicts_no_more_than_it_must(self) -> None:
        held = self._held()
        assert len(self.ring) == len(held) <= self.max_count
        assert self.ring.payload_bytes == sum(len(each.payload) for each in held) <= self.max_bytes
        given = [each for each in self.everything if each.offset > self.given_after]
        if len(held) < len(given):
            one_more = given[-len(held) - 1 :]
            assert (
                len(one_more) > self.max_count
                or sum(len(each.payload) for each in one_more) > self.max_bytes
            )

    @invariant()
    def it_has_exactly_what_is_above_the_floor(self) -> None:
        for each in self.everything:
            assert (self.ring.get(each.offset) == each) == (each.offset > self.ring.floor)

    def _held(self) -> list[StoredPublication]:
        return [each for each in self.everything if each.offset > self.ring.floor]


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_ring_that_has_the_whole_stream_knows_that_a_channel_is_empty() -> None:
    ring = Ring(max_count=10, max_bytes=1000)
    ring.append(StoredPublication(1, CHANNELS[0], b"first of all"))

    assert ring.last(CHANNELS[1], 5) == []
    assert ring.last(CHANNELS[0], 5) == [StoredPublication(1, CHANNELS[0], b"first of all")]


def test_channels_without_a_publication_in_the_ring_are_dropped() -> None:
    ring = Ring(max_count=3, max_bytes=1000)
    for offset in range(1, 1000):
        ring.append(StoredPublication(offset, ChannelName(f"chat:{offset}"), b"x"))

    assert ring.channel_count == 3
