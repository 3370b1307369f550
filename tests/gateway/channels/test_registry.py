"""The registry against the plainest model of it: a set of connections and a set of listeners."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from gateway.channels.registry import CATCHING_UP, ConnectionManager, Subscription, for_each
from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch, WriteCoalescer
from gateway.transport.frames import Frame
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, UserId
from hubbub_client.contracts.publications import BadPublication, StoredPublication
from shared.tokens.claims import SessionId
from tests.gateway.members import AMember, claims_of

USERS = st.sampled_from([UserId("1"), UserId("2"), UserId("3")])
SESSIONS = st.sampled_from([SessionId("s1"), SessionId("s2"), None])
CHANNELS = st.sampled_from([ChannelName("chat:a"), ChannelName("chat:b"), ChannelName("#1")])
FORMATS = st.sampled_from(["chat", "centrifuge"])
OFFSETS = st.integers(0, 20)
"""Of publications, 0 is that of an ephemeral one."""
LIVE_FROM = st.one_of(OFFSETS, st.just(CATCHING_UP))


class AFormat:
    """Encodes so that one sees what; counts how often."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0

    def __call__(self, publication: StoredPublication) -> Frame:
        self.asked += 1
        return self.seen(publication)

    def seen(self, publication: StoredPublication) -> Frame:
        offset, channel, payload, _time = publication
        return Frame(f"{self.name} {channel} {offset} {payload!r}".encode())


def a_manager() -> ConnectionManager:
    """One whose turns are over at once."""
    return ConnectionManager(WriteCoalescer(lambda flush: flush()))


@dataclass(eq=False)
class Listening:
    """What the model knows of a subscription."""

    subscription: Subscription
    format: AFormat
    live_from: int


class Registry(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.manager = a_manager()
        self.formats = {name: AFormat(name) for name in ("chat", "centrifuge")}
        self.everybody: list[AMember] = []
        self.here: dict[AMember, SessionId | None] = {}
        self.listens: dict[tuple[AMember, ChannelName], Listening] = {}

    members = Bundle("members")
    subscriptions = Bundle("subscriptions")

    @rule(target=members, user=USERS, session=SESSIONS)
    def connect(self, user: UserId, session: SessionId | None) -> AMember:
        member = AMember(user, session)
        self.manager.connect(member)
        self.everybody.append(member)
        self.here[member] = session
        return member

    @rule(member=members)
    def connect_again(self, member: AMember) -> None:
        self.manager.connect(member)
        self.here.setdefault(member, member.claims.session_id)

    @rule(member=members, session=SESSIONS)
    def renew(self, member: AMember, session: SessionId | None) -> None:
        before, claims = member.claims, claims_of(member.user_id, session)

        self.manager.renew(member, claims)

        if member in self.here:
            self.here[member] = session
            assert member.claims is claims
        else:
            assert member.claims is before

    @rule(member=st.one_of(members, consumes(members)))
    def disconnect(self, member: AMember) -> None:
        self.manager.disconnect(member)
        self.here.pop(member, None)
        self.listens = {key: kept for key, kept in self.listens.items() if key[0] is not member}
        assert member.subscriptions == ()

    @rule(target=subscriptions, member=members, channel=CHANNELS, name=FORMATS, live_from=LIVE_FROM)
    def subscribe(
        self, member: AMember, channel: ChannelName, name: str, live_from: int
    ) -> Subscription | MultipleResults[Subscription]:
        encode = self.formats[name]
        if member not in self.here:
            with pytest.raises(LookupError):
                self.manager.subscribe(member, channel, encode, live_from)
            return multiple()
        subscription = self.manager.subscribe(member, channel, encode, live_from)
        known = self.listens.setdefault(
            (member, channel), Listening(subscription, encode, live_from)
        )
        assert subscription is known.subscription
        assert (subscription.member, subscription.channel) == (member, channel)
        assert (subscription.encode, subscription.live_from) == (known.format, known.live_from)
        return subscription

    @rule(member=members, channel=CHANNELS, live_from=LIVE_FROM)
    def turn_live_or_catch_up(self, member: AMember, channel: ChannelName, live_from: int) -> None:
        listening = self.listens.get((member, channel))
        if listening is not None:
            listening.subscription.live_from = listening.live_from = live_from

    @rule(subscription=subscriptions)
    def unsubscribe(self, subscription: Subscription) -> None:
        """Also one that is over, though its member may have come back to the channel."""
        self.manager.unsubscribe(subscription)
        key = cast(AMember, subscription.member), subscription.channel
        if key in self.listens and self.listens[key].subscription is subscription:
            del self.listens[key]

    @rule(
        member=members, due=st.sampled_from([None, STALLED, NOTHING_MORE]), has_room=st.booleans()
    )
    def stall_or_end_or_go_on(
        self, member: AMember, due: FrameBatch | None, *, has_room: bool
    ) -> None:
        member.connection.pending, member.connection.has_room = due, has_room

    @rule(channel=CHANNELS, offset=OFFSETS)
    def broadcast(self, channel: ChannelName, offset: int) -> None:
        count = self.manager.broadcast(channel, StoredPublication(offset, channel, b"said"))
        self._assert_it_reached(channel, offset, b"said", count)

    @rule(user=USERS, offset=OFFSETS)
    def send_to_user(self, user: UserId, offset: int) -> None:
        count = self.manager.send_to_user(
            user, StoredPublication(offset, ChannelName(f"#{user}"), b"for you")
        )
        self._assert_it_reached(ChannelName(f"#{user}"), offset, b"for you", count)

    def _assert_it_reached(
        self, channel: ChannelName, offset: int, payload: bytes, count: int
    ) -> None:
        """Who is live, unless nothing more is sent to it; stalled and full, it falls behind. An
        ephemeral publication reaches whoever is live, and is nothing to fall behind with."""
        listeners = {
            member: listening
            for (member, listened), listening in self.listens.items()
            if listened == channel
        }
        is_ephemeral = offset == 0
        reached = {
            member
            for member, listening in listeners.items()
            if (
                listening.live_from != CATCHING_UP
                if is_ephemeral
                else offset >= listening.live_from
            )
            and member.connection.pending is not NOTHING_MORE
            and not (is_ephemeral and member.connection.is_stalled)
        }
        full = {
            member
            for member in reached
            if member.connection.is_stalled and not member.connection.has_room
        }
        assert count == len(reached)
        for member in self.everybody:
            connection = member.connection
            gets_it = member in reached and member not in full
            seen = (
                [listeners[member].format.seen(StoredPublication(offset, channel, payload))]
                if gets_it
                else []
            )
            assert connection.sent == seen
            assert member.behind_from == ([offset - 1] if member in full else [])
            assert not connection.failures
            connection.sent.clear()
            member.behind_from.clear()
        listened_in = {listening.format for listening in listeners.values()}
        for encode in self.formats.values():
            assert encode.asked == (encode in listened_in), "once for all, and not for nobody"
            encode.asked = 0

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        manager = self.manager
        assert set(manager.connections()) == set(self.here)
        assert manager.connection_count() == len(self.here)
        assert manager.active_user_count() == len({member.user_id for member in self.here})
        assert set(manager.channels()) == {channel for _, channel in self.listens}
        for member, session in self.here.items():
            assert member.claims.session_id == session
            assert list(member.subscriptions) == [
                listening.subscription
                for (listener, _), listening in self.listens.items()
                if listener is member
            ]
        for session in (SessionId("s1"), SessionId("s2")):
            assert set(manager.connections_of_session(session)) == {
                member for member, its_session in self.here.items() if its_session == session
            }
        for user in (UserId("1"), UserId("2"), UserId("3")):
            assert set(manager.connections_of(user)) == {
                member for member in self.here if member.user_id == user
            }
        for encode in self.formats.values():
            for channel in ("chat:a", "chat:b", "#1"):
                listeners = list(manager.listeners(ChannelName(channel), encode))
                assert listeners == [
                    listening.subscription
                    for (_, listened), listening in self.listens.items()
                    if listened == channel and listening.format is encode
                ]

    @invariant()
    def nothing_empty_is_kept(self) -> None:
        manager = self.manager
        groups = [each for each in manager._listeners.values() if isinstance(each, dict)]
        kept = [manager._listeners, *groups, manager._users, manager._sessions]
        for index in cast(list[dict[object, Collection[object]]], kept):
            assert all(index.values()), "a leak changes no behaviour, so it is looked for here"


TestRegistry = Registry.TestCase


def test_who_is_one_of_very_many_of_a_user_comes_and_goes_without_a_look_at_the_others() -> None:
    """All who are nobody in particular are such a user."""

    class Sought(AMember):
        """Counts how often any of them is looked for."""

        times = 0

        def __hash__(self) -> int:
            Sought.times += 1
            return super().__hash__()

    manager, session = a_manager(), SessionId("s1")
    members = [Sought(ANONYMOUS, session) for _ in range(100)]
    for member in members[:-1]:
        manager.connect(member)
    here, sought = manager.connections_of(ANONYMOUS), Sought.times

    manager.connect(members[-1])
    assert list(here) == list(manager.connections_of_session(session)) == members, "no copy"
    manager.disconnect(members[0])
    assert list(here) == list(manager.connections_of_session(session)) == members[1:]

    assert Sought.times - sought < 20
    for member in members[1:]:
        manager.disconnect(member)
    assert not manager.connections_of(ANONYMOUS)
    assert manager.active_user_count() == 0


@pytest.mark.parametrize("first", [True, False])
def test_a_channel_that_grows_and_shrinks_keeps_its_listeners_in_their_order(
    *, first: bool
) -> None:
    """Few of them are kept in another way than many."""
    manager, channel, encode = a_manager(), ChannelName("chat:a"), AFormat("chat")
    members = [AMember(UserId(str(number))) for number in range(10)]
    subscriptions: list[Subscription] = []

    for member in members:
        manager.connect(member)
        subscriptions.append(manager.subscribe(member, channel, encode))
        assert manager.subscribe(member, channel, encode) is subscriptions[-1]
        assert list(manager.listeners(channel, encode)) == subscriptions
    while subscriptions:
        manager.unsubscribe(subscriptions.pop(0 if first else -1))
        assert list(manager.listeners(channel, encode)) == subscriptions
    assert channel not in manager.channels()


def test_a_publication_costs_nothing_for_the_formats_of_other_channels() -> None:
    class Sought(str):
        """A name that counts how often it is looked for."""

        times = 0

        def __hash__(self) -> int:
            Sought.times += 1
            return super().__hash__()

    manager = a_manager()
    for number in range(100):
        member = AMember(UserId(str(number)))
        manager.connect(member)
        manager.subscribe(member, ChannelName("chat:a"), AFormat(f"filter {number}"))
    channel = ChannelName(Sought("chat:b"))

    manager.broadcast(channel, StoredPublication(5, channel, b"said"))
    list(manager.subscriptions_to(channel))

    assert Sought.times == 2


def test_a_listener_may_change_its_format_among_few_and_among_many() -> None:
    manager, channel = a_manager(), ChannelName("chat:a")
    whole, patched = AFormat("whole"), AFormat("patched")
    subscriptions: list[Subscription] = []
    for number in range(10):
        member = AMember(UserId(str(number)))
        manager.connect(member)
        subscriptions.append(manager.subscribe(member, channel, whole, 0))

        manager.reformat(subscriptions[-1], patched)

        assert list(manager.listeners(channel, patched)) == subscriptions
        assert not list(manager.listeners(channel, whole))
        assert list(manager.subscriptions_to(channel)) == subscriptions
    assert manager.broadcast(channel, StoredPublication(5, channel, b"said")) == 10
    assert (whole.asked, patched.asked) == (0, 1)


def test_a_step_may_change_the_registry_under_the_feet_of_whoever_takes_it_for_each() -> None:
    manager = a_manager()
    for number in range(3):
        manager.connect(AMember(UserId(str(number))))

    assert for_each(manager.connections(), manager.disconnect) == 3

    assert not manager.connections()


def test_what_cannot_be_encoded_reaches_nobody_of_its_format_and_all_of_another() -> None:
    def refuse(_publication: StoredPublication) -> Frame:
        raise BadPublication("nothing to see")

    manager, channel = a_manager(), ChannelName("chat:a")
    member, another = AMember(UserId("1")), AMember(UserId("2"))
    chat = AFormat("chat")
    for each, encode in ((member, refuse), (another, chat)):
        manager.connect(each)
        manager.subscribe(each, channel, encode, 0)

    with pytest.raises(BadPublication, match="nothing to see"):
        manager.broadcast(channel, StoredPublication(5, channel, b"said"))

    assert member.connection.sent == []
    assert another.connection.sent == [chat.seen(StoredPublication(5, channel, b"said"))]


@pytest.fixture
def live() -> AMember:
    manager, member = a_manager(), AMember(UserId("1"))
    manager.connect(member)
    manager.subscribe(member, ChannelName("chat:a"), AFormat("chat"))
    manager.subscribe(member, ChannelName("#1"), AFormat("chat"), 7)
    return member


def catch_up(member: AMember) -> None:
    for subscription in member.subscriptions:
        subscription.live_from = CATCHING_UP


def test_who_gets_anything_live_is_live(live: AMember) -> None:
    assert live.is_live

    catch_up(live)

    assert not live.is_live


@pytest.mark.parametrize("has_room", [True, False])
def test_what_is_not_stored_is_sent_to_who_is_not_stalled_whatever_room_there_is(
    live: AMember, *, has_room: bool
) -> None:
    live.connection.has_room = has_room

    live.send(Frame(b"came"))

    assert (live.connection.sent, live.behind_from) == ([b"came"], [])


def test_who_is_stalled_gets_what_is_not_stored_while_there_is_room_and_else_falls_behind(
    live: AMember,
) -> None:
    live.connection.stall()
    live.send(Frame(b"came"))
    live.connection.has_room = False
    live.send(Frame(b"went"))

    assert live.connection.sent == [b"came"]
    assert live.behind_from == [None], "it was given all that was published"


def test_who_is_catching_up_cannot_fall_behind(live: AMember) -> None:
    catch_up(live)
    live.connection.stall()
    live.connection.has_room = False

    live.send(Frame(b"came"))

    assert (live.connection.sent, live.behind_from) == ([b"came"], [])
