"""Who is sent a publication whole, and who a patch of the one before it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from centrifuge.fossil import apply_delta

from gateway.channels.registry import CATCHING_UP, ConnectionManager, Subscription
from gateway.protocols.centrifuge.codec import WEBSOCKET
from gateway.protocols.centrifuge.formats import Formats
from gateway.streams.encodings import Encodings
from gateway.transport.coalescer import WriteCoalescer
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import Publication, StoredPublication
from tests.gateway.members import AMember

CHANNEL = ChannelName("delta:a")
PAD = "x" * 100


class World:
    """A channel, and who listens to it with delta. What is due in the next turn waits for it."""

    def __init__(self, *, patches_all: bool = False) -> None:
        self.due: list[Callable[[], object]] = []
        self.manager = ConnectionManager(WriteCoalescer(self._do_next_turn))
        self.stored: list[StoredPublication] = []
        self.formats = Formats(
            WEBSOCKET,
            self.manager,
            before=lambda _channel, offset: self.stored[offset - 2] if offset > 1 else None,
            patches_all=lambda _channel: patches_all,
            soon=self._do_next_turn,
        )

    def _do_next_turn(self, step: Callable[..., object], *arguments: object) -> None:
        self.due.append(lambda: step(*arguments))

    def listener(self, *, live_from: int | None = None) -> Subscription:
        member = AMember(UserId("7"))
        self.manager.connect(member)
        return self.manager.subscribe(
            member,
            CHANNEL,
            self.formats.first_whole,
            live_from=len(self.stored) + 1 if live_from is None else live_from,
        )

    def publish(self, *, delta: bool = True) -> None:
        offset = len(self.stored) + 1
        data = {"n": offset, "pad": PAD}
        stored = StoredPublication(offset, CHANNEL, Publication(data, delta=delta).encode())
        self.stored.append(stored)
        self.manager.broadcast(CHANNEL, stored)

    def next_turn(self) -> None:
        due, self.due = self.due, []
        for step in due:
            step()


def seen(subscription: Subscription) -> list[tuple[int, bool]]:
    """What came, and whether as a patch; each is read as the SDK would."""
    assert isinstance(subscription.member, AMember)
    connection = subscription.member.connection
    connection.write_pending()
    found: list[tuple[int, bool]] = []
    before = b""
    for message in connection.messages:
        pub = message["push"]["pub"]
        is_patch = pub.get("delta", False)
        before = apply_delta(before, pub["data"].encode()) if is_patch else pub["data"].encode()
        found.append((json.loads(before)["n"], is_patch))
    return found


def test_the_first_comes_whole_and_what_follows_as_patches() -> None:
    world = World()
    ann = world.listener()

    for _ in range(3):
        world.publish()
        world.next_turn()

    assert seen(ann) == [(1, False), (2, True), (3, True)]


def test_who_came_right_behind_a_publication_is_sent_the_next_one_whole() -> None:
    world = World()
    world.listener()
    world.publish()
    ben = world.listener()
    world.next_turn()

    world.publish()

    assert seen(ben) == [(2, False)]


def test_who_is_catching_up_is_sent_the_first_live_one_whole() -> None:
    world = World()
    world.listener()
    ben = world.listener(live_from=CATCHING_UP)
    world.publish()
    world.next_turn()

    ben.live_from = 2
    world.publish()

    assert seen(ben) == [(2, False)]


@pytest.mark.parametrize(
    ("delta", "patches_all", "is_patch"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
async def test_a_publication_is_patched_if_it_says_so_or_its_channel_does(
    delta: bool, patches_all: bool, is_patch: bool
) -> None:
    world = World(patches_all=patches_all)
    ann = world.listener()
    world.publish()
    world.next_turn()

    world.publish(delta=delta)

    assert seen(ann)[-1] == (2, is_patch)
    missed = world.formats.replayed(ann.encode, world.stored, in_patches=True, known=Encodings())
    patches = [each.get("delta", False) for each in json.loads(missed)]
    assert patches == [False, is_patch]


def listen_filtered(world: World, *kinds: str) -> AMember:
    member = AMember(UserId("7"))
    world.manager.connect(member)
    encode = world.formats.filtered({"key": "kind", "cmp": "in", "vals": list(kinds)})
    world.manager.subscribe(member, CHANNEL, encode, live_from=0)
    return member


def test_what_several_filters_take_is_encoded_once() -> None:
    world = World()
    goals, both = listen_filtered(world, "goal"), listen_filtered(world, "goal", "foul")
    fouls = listen_filtered(world, "foul")

    for offset, kind in ((1, "goal"), (2, "foul")):
        payload = Publication({"score": offset}, tags={"kind": kind}).encode()
        world.manager.broadcast(CHANNEL, StoredPublication(offset, CHANNEL, payload))
        world.next_turn()

    assert goals.connection.sent == both.connection.sent[:1]
    assert fouls.connection.sent == both.connection.sent[1:]
    assert goals.connection.sent[0] is both.connection.sent[0]
    assert fouls.connection.sent[0] is both.connection.sent[1]
    assert [each["push"]["pub"]["data"]["score"] for each in both.connection.messages] == [1, 2]


def test_a_publication_is_read_once_for_all_filters() -> None:
    class Counted(StoredPublication):
        reads = 0

        def __getattribute__(self, name: str) -> Any:
            Counted.reads += name == "payload"
            return super().__getattribute__(name)

    world = World()
    for number in range(10):
        listen_filtered(world, f"kind {number}")

    world.manager.broadcast(CHANNEL, Counted(1, CHANNEL, Publication("said").encode()))

    assert Counted.reads == 1


def test_equal_filters_are_one_format_for_as_long_as_somebody_listens_by_it() -> None:
    world = World()
    members = [listen_filtered(world, "goal") for _ in range(2)]
    assert len({each.subscriptions[0].encode for each in members}) == 1

    for member in members:
        world.manager.disconnect(member)
    del member, members

    assert not world.formats._filtered
