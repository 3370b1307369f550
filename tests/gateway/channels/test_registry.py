"""The registry against the plainest model of it: a set of connections and a set of listeners."""

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.channels.registry import CATCHING_UP, ConnectionManager, Encode
from gateway.errors import EndReason
from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch, WriteCoalescer
from gateway.transport.frames import Frame
from shared.contracts.ids import ChannelName, SessionId, UserId
from shared.tokens.access_tokens import Claims
from tests.gateway.sinks import ASink

USERS = st.sampled_from([UserId("1"), UserId("2"), UserId("3")])
SESSIONS = st.sampled_from([SessionId("s1"), SessionId("s2"), None])
CHANNELS = st.sampled_from([ChannelName("chat:a"), ChannelName("chat:b"), ChannelName("#1")])
OFFSETS = st.integers(0, 20)


class AMember:
    def __init__(self, user_id: UserId, session_id: SessionId | None, protocol: str) -> None:
        self.user_id = user_id
        self.protocol = protocol
        self.connection = ASink()
        self.sent: list[Frame] = []
        self.sign_in(session_id)

    @property
    def got(self) -> list[bytes]:
        return [*self.connection.written, *self.sent]

    def sign_in(self, session_id: SessionId | None) -> None:
        self.claims = Claims(self.user_id, "Ann", session_id, issued_at=0, expires_at=1)

    def close(self, reason: EndReason) -> None:
        raise NotImplementedError

    def cut(self, reason: EndReason) -> None:
        raise NotImplementedError

    def end_with_token(self) -> None: ...

    def start_over(self, reason: str) -> None:
        raise NotImplementedError

    def abandon(self, error: Exception, event: str) -> None:
        raise error

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def offer(self, frame: Frame, offset: int) -> None:
        assert self.connection.pending is STALLED
        self.sent.append(frame)


class Registry(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.turn: list[Callable[[], None]] = []
        self.manager = ConnectionManager(WriteCoalescer(self.turn.append))
        self.here: dict[AMember, SessionId | None] = {}
        self.listens: dict[tuple[AMember, ChannelName], int] = {}

    members = Bundle("members")

    @rule(
        target=members,
        user=USERS,
        session=SESSIONS,
        protocol=st.sampled_from(["chat", "centrifuge"]),
    )
    def connect(self, user: UserId, session: SessionId | None, protocol: str) -> AMember:
        member = AMember(user, session, protocol)
        self.manager.connect(member)
        self.here[member] = session
        return member

    @rule(member=members, session=SESSIONS)
    def move_to_another_session(self, member: AMember, session: SessionId | None) -> None:
        if member in self.here:
            member.sign_in(session)
            self.manager.connect(member)
            self.here[member] = session

    @rule(member=st.one_of(members, consumes(members)))
    def disconnect(self, member: AMember) -> None:
        self.manager.disconnect(member)
        self.here.pop(member, None)
        self.listens = {key: at for key, at in self.listens.items() if key[0] is not member}

    @rule(member=members, channel=CHANNELS, live_from=st.one_of(OFFSETS, st.just(CATCHING_UP)))
    def subscribe(self, member: AMember, channel: ChannelName, live_from: int) -> None:
        if member in self.here:
            subscription = self.manager.subscribe(member, channel, live_from)
            kept = self.listens.setdefault((member, channel), live_from)
            assert subscription.live_from == kept

    @rule(member=members, channel=CHANNELS, offset=OFFSETS)
    def turn_live(self, member: AMember, channel: ChannelName, offset: int) -> None:
        if (member, channel) in self.listens:
            self.manager.subscribe(member, channel).live_from = offset
            self.listens[member, channel] = offset

    @rule(member=members, channel=CHANNELS)
    def unsubscribe(self, member: AMember, channel: ChannelName) -> None:
        self.manager.unsubscribe(member, channel)
        self.listens.pop((member, channel), None)

    @rule(member=members, due=st.sampled_from([None, STALLED, NOTHING_MORE]))
    def stall_or_end_or_go_on(self, member: AMember, due: FrameBatch | None) -> None:
        member.connection.pending = due

    @rule(channel=CHANNELS, offset=OFFSETS)
    def broadcast(self, channel: ChannelName, offset: int) -> None:
        expected = {
            member
            for (member, listened), live_from in self.listens.items()
            if listened == channel and offset >= live_from
        }
        heard = {member for member in expected if member.connection.pending is not NOTHING_MORE}
        protocols = {member.protocol for (member, heard) in self.listens if heard == channel}
        encoded: list[str] = []

        count = self.manager.broadcast(channel, self._encode_into(encoded), offset=offset)

        for flush in self.turn:
            flush()
        self.turn.clear()
        self._assert_got_it(heard, count)
        assert sorted(encoded) == sorted(protocols), "encoded once"

    @rule(user=USERS)
    def send_to_user(self, user: UserId) -> None:
        expected = {member for member in self.here if member.user_id == user}
        encoded: list[str] = []

        count = self.manager.send_to_user(user, self._encode_into(encoded))

        self._assert_got_it(expected, count)
        assert sorted(encoded) == sorted({member.protocol for member in expected}), "encoded once"

    def _encode_into(self, encoded: list[str]) -> Encode:
        def encode(protocol: str) -> Frame:
            encoded.append(protocol)
            return Frame(protocol.encode())

        return encode

    def _assert_got_it(self, expected: set[AMember], count: int) -> None:
        assert count == len(expected)
        for member in self.here:
            assert member.got == ([member.protocol.encode()] if member in expected else [])
            member.sent.clear()
            member.connection.written.clear()

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        manager = self.manager
        assert set(manager.connections()) == set(self.here)
        assert manager.connection_count() == len(self.here)
        assert manager.active_user_count() == len({member.user_id for member in self.here})
        assert set(manager.channels()) == {channel for _, channel in self.listens}
        for member in self.here:
            assert {s.channel for s in manager.subscriptions_of(member)} == {
                channel for listener, channel in self.listens if listener is member
            }
        for session in (SessionId("s1"), SessionId("s2")):
            assert set(manager.connections_of_session(session)) == {
                member for member, its_session in self.here.items() if its_session == session
            }
        for user in (UserId("1"), UserId("2"), UserId("3")):
            assert set(manager.connections_of(user)) == {
                member for member in self.here if member.user_id == user
            }

    @invariant()
    def nothing_empty_is_kept(self) -> None:
        manager = self.manager
        kept = [*manager._listeners.values(), manager._users, manager._sessions]
        for index in cast(list[dict[object, object]], kept):
            assert all(index.values()), "a leak changes no behaviour, so it is looked for here"
        assert len(manager._session_of) == sum(s is not None for s in self.here.values())


TestRegistry = Registry.TestCase


@pytest.mark.parametrize("first", [True, False])
def test_a_channel_that_grows_and_shrinks_keeps_its_listeners_in_their_order(
    *, first: bool
) -> None:
    """Few of them are kept in another way than many."""
    manager, channel = ConnectionManager(WriteCoalescer(lambda _flush: None)), ChannelName("chat:a")
    members = [AMember(UserId(str(number)), None, "chat") for number in range(10)]

    def heard() -> list[AMember]:
        return [cast(AMember, listener.member) for listener in manager.listeners(channel)]

    for count, member in enumerate(members, start=1):
        manager.connect(member)
        subscription = manager.subscribe(member, channel)
        assert manager.subscribe(member, channel) is subscription
        assert heard() == members[:count]
    while members:
        manager.unsubscribe(members.pop(0 if first else -1), channel)
        assert heard() == members
    assert channel not in manager.channels()
