"""Who is given which publication, with members that only remember it."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.channels.registry import CATCHING_UP, ConnectionManager, Fanout
from gateway.errors import EndReason
from gateway.metrics import GatewayMetrics
from gateway.protocols.chat.codec import encode_publication
from gateway.streams.feed import Reason
from gateway.transport.coalescer import WriteCoalescer
from hubbub_client.contracts.channels import personal_channel, room_channel
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import Publication, StoredPublication
from tests.gateway.members import AFailingMember, AMember

ROOM = room_channel("lobby")
ANN, BEN, CEM = UserId("1"), UserId("2"), UserId("3")


class Lobby:
    def __init__(self) -> None:
        self.turn: list[Callable[[], None]] = []
        self.manager = ConnectionManager(WriteCoalescer(self.turn.append))
        self.registry = CollectorRegistry()
        self.fanout = Fanout(self.manager, GatewayMetrics(self.registry))

    def enter(self, member: AMember, channel: ChannelName = ROOM, live_from: int = 0) -> AMember:
        self.manager.connect(member)
        self.manager.subscribe(member, channel, encode_publication, live_from)
        return member

    def end_turn(self) -> None:
        while self.turn:
            self.turn.pop()()

    @property
    def deliveries(self) -> float | None:
        return self.registry.get_sample_value("hubbub_deliveries_total")

    @property
    def skipped(self) -> float | None:
        return self.registry.get_sample_value("hubbub_publications_skipped_total")


@pytest.fixture
def lobby() -> Lobby:
    return Lobby()


def test_all_who_are_live_get_the_very_same_frame(lobby: Lobby) -> None:
    ann, ben = lobby.enter(AMember(ANN)), lobby.enter(AMember(BEN))
    arriving = lobby.enter(AMember(CEM), live_from=6)

    lobby.fanout.deliver(StoredPublication(5, ROOM, Publication(data=1).encode()))

    assert lobby.turn, "they are due now, and leave at the end of the turn"
    lobby.end_turn()
    assert ann.connection.messages == [{"type": "publication", "data": 1, "offset": 5, "time": ""}]
    assert ann.connection.sent[0] is ben.connection.sent[0]
    assert arriving.connection.sent == []
    assert lobby.deliveries == 2


def test_what_is_published_for_a_user_reaches_all_of_the_users_tabs_and_nobody_else(
    lobby: Lobby,
) -> None:
    tabs = [lobby.enter(AMember(ANN), personal_channel(ANN)) for _ in range(2)]
    ben = lobby.enter(AMember(BEN), personal_channel(BEN))

    lobby.fanout.deliver(StoredPublication(5, personal_channel(ANN), Publication(data=1).encode()))

    lobby.end_turn()
    told = {"type": "publication", "channel": "#1", "data": 1, "offset": 5, "time": ""}
    assert [tab.connection.messages for tab in tabs] == [[told], [told]]
    assert ben.connection.sent == []
    assert lobby.deliveries == 2


def test_what_is_ephemeral_reaches_whoever_is_live_and_has_room_for_it(lobby: Lobby) -> None:
    ann, ahead = lobby.enter(AMember(ANN), live_from=6), lobby.enter(AMember(BEN), live_from=900)
    recovering = lobby.enter(AMember(CEM), live_from=CATCHING_UP)
    slow = lobby.enter(AMember(UserId("4")))
    slow.connection.stall()

    lobby.fanout.deliver(StoredPublication(0, ROOM, Publication(data=1).encode()))

    lobby.end_turn()
    members = (ann, ahead, recovering, slow)
    assert [len(member.connection.sent) for member in members] == [1, 1, 0, 0]
    assert slow.behind_from == []
    assert lobby.deliveries == 2


def test_what_nobody_listens_to_is_not_even_read(lobby: Lobby) -> None:
    lobby.enter(AMember(ANN))

    for channel in (room_channel("elsewhere"), personal_channel(ANN)):
        lobby.fanout.deliver(StoredPublication(5, channel, b"nothing that anybody could read"))

    assert (lobby.deliveries, lobby.skipped) == (0, 0)


@pytest.mark.parametrize("channel", [ROOM, personal_channel(ANN)])
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'{"sender":{}}',
        b"\xff",
        b"[" * 10_000,
        b'{"data":1e400}',
        b'{"data":[[NaN]]}',
        b'{"data":%b%b}' % (b"[" * 61, b"]" * 61),
        b'{"data":"\\ud83d"}',
        b'{"data":{"body":"x"},"sender":{"user_id":%b,"name":"Ann"}}' % (b"9" * 400),
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_nobody_can_read_is_skipped_and_counted(
    lobby: Lobby, channel: ChannelName, payload: bytes
) -> None:
    ann = lobby.enter(AMember(ANN), channel)

    lobby.fanout.deliver(StoredPublication(5, channel, payload))

    assert not lobby.turn
    assert not ann.connection.sent
    assert (lobby.deliveries, lobby.skipped) == (0, 1)


def test_a_flood_of_what_nobody_can_read_is_counted_and_said_once(lobby: Lobby) -> None:
    lobby.enter(AMember(ANN))

    with capture_logs() as logs:
        for offset in range(5, 105):
            lobby.fanout.deliver(StoredPublication(offset, ROOM, b'{"data":1e400}'))

    assert lobby.skipped == 100
    assert [line for line in logs if line["event"] == "publication_unreadable"] == [
        {
            "event": "publication_unreadable",
            "log_level": "warning",
            "offset": 5,
            "reason": "a number that is not finite",
        }
    ]


def publish_in_the_room(lobby: Lobby) -> None:
    lobby.fanout.deliver(StoredPublication(5, ROOM, Publication(data=1).encode()))


def publish_for_the_user(lobby: Lobby) -> None:
    lobby.fanout.deliver(StoredPublication(5, personal_channel(ANN), Publication(data=1).encode()))


def start_over(lobby: Lobby) -> None:
    lobby.fanout.start_over(Reason.TOO_OLD)


@pytest.mark.parametrize("do", [publish_in_the_room, publish_for_the_user, start_over])
def test_what_fails_for_one_member_costs_that_member_and_nobody_else(
    lobby: Lobby, do: Callable[[Lobby], None]
) -> None:
    members = [AMember(ANN), AFailingMember(ANN), AMember(ANN)]
    for member in members:
        lobby.enter(member)
        lobby.enter(member, personal_channel(ANN))
        member.connection.stall()

    do(lobby)

    told = [len(member.connection.sent) + len(member.started_over) for member in members]
    assert told == [1, 0, 1]
    failures = [[str(error) for error in member.connection.failures] for member in members]
    assert failures == [[], ["a member that fails"], []]
    assert members[1].connection.closing is EndReason.INTERNAL_ERROR


@pytest.mark.parametrize("reason", [Reason.TOO_OLD, Reason.EPOCH])
def test_a_jump_of_the_stream_is_told_to_everybody(lobby: Lobby, reason: Reason) -> None:
    members = [lobby.enter(AMember(ANN)), AMember(BEN)]
    lobby.manager.connect(members[1])

    lobby.fanout.start_over(reason)

    assert [member.started_over for member in members] == [[reason], [reason]]
