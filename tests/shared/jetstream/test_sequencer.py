"""The merge of live copies and what the stream answers, on its own."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.jetstream.sequencer import Gap, Sequencer

SIZE = 10
MAX_HELD_BYTES = 5 * SIZE


class Following(RuleBasedStateMachine):
    """A stream, a bus that loses, repeats and delays live copies, and a lagging replica.

    The reader is a follower without its I/O; ``outcome`` is what it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[int, str] = {}
        self.removed: set[int] = set()
        self.last = 0
        self.flying: list[int] = []
        self.outcome: list[int] = []
        self.skipped: list[int] = []
        self.sequencer: Sequencer[int] = Sequencer(max_held_bytes=MAX_HELD_BYTES)

    @rule(copies=st.integers(0, 3))
    def store(self, copies: int) -> None:
        self.last += 1
        self.stored[self.last] = str(self.last)
        self.flying += [self.last] * copies

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def hear_live(self, data: st.DataObject) -> None:
        sequence = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if self.sequencer.is_next(sequence):
            self.outcome.append(sequence)
            self.outcome += self.sequencer.due()
        else:
            self.sequencer.hold(sequence, sequence, SIZE)

    @rule(lag=st.integers(0, 4), limit=st.integers(1, 4))
    def fill(self, lag: int, limit: int) -> None:
        known = [s for s in sorted(self.stored) if self.sequencer.position < s <= self.last - lag]
        answer = known[:limit]
        gap = self.sequencer.first_gap(answer)
        before = len(self.skipped)
        for sequence in answer:
            self.take(self.sequencer.fill(sequence, sequence))
        assert (gap is not None) == (len(self.skipped) > before)
        assert gap is None or self.skipped[before] == gap

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.stored)))
        del self.stored[sequence]
        self.removed.add(sequence)

    @precondition(lambda self: not any(s > self.sequencer.position for s in self.stored))
    @rule()
    def learn_that_nothing_is_left(self) -> None:
        self.take(self.sequencer.skip_to(self.last))
        assert self.sequencer.position == self.last

    def take(self, due: object) -> None:
        for item in due:  # type: ignore[attr-defined]
            if isinstance(item, Gap):
                assert item.first <= item.last
                self.skipped += range(item.first, item.last + 1)
            else:
                self.outcome.append(item)

    @invariant()
    def every_sequence_up_to_the_position_came_once_and_in_order(self) -> None:
        assert self.outcome == sorted(set(self.outcome))
        assert sorted(self.outcome + self.skipped) == list(range(1, self.sequencer.position + 1))

    @invariant()
    def only_what_was_removed_is_skipped(self) -> None:
        assert self.removed.issuperset(self.skipped)

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        assert 0 <= self.sequencer.held_bytes <= MAX_HELD_BYTES

    @invariant()
    def it_knows_of_everything_it_has_heard(self) -> None:
        assert self.sequencer.position <= self.sequencer.highest <= self.last

    def teardown(self) -> None:
        while any(sequence > self.sequencer.position for sequence in self.stored):
            self.fill(0, 4)
        self.learn_that_nothing_is_left()
        self.every_sequence_up_to_the_position_came_once_and_in_order()
        assert set(self.stored) <= set(self.outcome)


TestFollowing = Following.TestCase


def test_what_came_ahead_is_delivered_once_the_hole_is_filled() -> None:
    sequencer: Sequencer[str] = Sequencer(max_held_bytes=100)

    assert sequencer.is_next(1)
    assert not sequencer.is_next(3)
    sequencer.hold(3, "live 3", 1)

    assert list(sequencer.fill(2, "stored 2")) == ["stored 2", "live 3"]
    assert sequencer.position == 3


def test_a_message_that_came_live_and_was_then_removed_is_delivered_all_the_same() -> None:
    sequencer: Sequencer[str] = Sequencer(max_held_bytes=100)
    sequencer.hold(2, "live 2", 1)

    assert list(sequencer.fill(4, "stored 4")) == [Gap(1, 1), "live 2", Gap(3, 3), "stored 4"]


def test_past_the_bound_everything_held_is_dropped_and_still_known_of() -> None:
    sequencer: Sequencer[str] = Sequencer(max_held_bytes=10)

    for sequence in (5, 6, 7):
        sequencer.hold(sequence, "live", 4)

    assert sequencer.held_bytes == 0
    assert sequencer.highest == 7


def test_a_jump_keeps_what_was_heard_beyond_it() -> None:
    sequencer: Sequencer[str] = Sequencer(max_held_bytes=100)
    sequencer.hold(7, "live 7", 1)
    sequencer.hold(9, "live 9", 1)

    sequencer.jump(8)

    assert list(sequencer.due()) == ["live 9"]
    assert sequencer.position == 9


def test_what_belongs_to_another_life_is_forgotten() -> None:
    sequencer: Sequencer[str] = Sequencer(max_held_bytes=100)
    sequencer.hold(7, "live 7", 1)

    sequencer.forget_ahead()

    assert sequencer.highest == sequencer.position == 0
    assert list(sequencer.fill(1, "other 1")) == ["other 1"]
