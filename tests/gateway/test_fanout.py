"""Who is told of what, with members that only remember it."""

import json
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.channels.registry import ConnectionManager
from gateway.errors import EndReason
from gateway.metrics import GatewayMetrics
from gateway.presence.table import PresenceChange
from gateway.session.fanout import Fanout
from gateway.transport.coalescer import STALLED, WriteCoalescer
from gateway.transport.frames import Frame, text_frame
from shared.contracts.channels import room_channel
from shared.contracts.ids import UserId
from shared.contracts.publications import Publication
from shared.jetstream.position import EPOCH_CHANGED, RETENTION
from shared.runtime.process import running
from shared.tokens.access_tokens import Claims
from tests.gateway.serving import until
from tests.gateway.sinks import ASink

ROOM = room_channel("lobby")
ANN, BEN, CEM, DEE = UserId("1"), UserId("2"), UserId("3"), UserId("4")


class AMember:
    protocol = "chat"

    def __init__(self, user_id: UserId) -> None:
        self.user_id = user_id
        self.claims = Claims(user_id, "X", None, issued_at=0, expires_at=1)
        self.connection = ASink()
        self.sent: list[Frame] = []
        self.told: list[str] = []
        self.fails = False
        self.failures: list[str] = []

    def send(self, frame: Frame) -> None:
        self._may_fail()
        self.sent.append(frame)

    def offer(self, frame: Frame, offset: int) -> None:
        self.send(frame)

    def abandon(self, error: Exception, event: str) -> None:
        self.failures.append(str(error))

    def _may_fail(self) -> None:
        if self.fails:
            raise RuntimeError("a member that fails")

    def close(self, reason: EndReason) -> None:
        raise NotImplementedError

    def cut(self, reason: EndReason) -> None:
        raise NotImplementedError

    def end_with_token(self) -> None: ...

    def start_over(self, reason: str) -> None:
        self._may_fail()
        self.told.append(reason)


class Lobby:
    def __init__(self) -> None:
        self.turn: list[Callable[[], None]] = []
        self.manager = ConnectionManager(WriteCoalescer(self.turn.append))
        self.registry = CollectorRegistry()
        self.count = 0
        self.fanout = Fanout(
            self.manager,
            GatewayMetrics(self.registry),
            names=lambda _channel, _most: [],
            count=lambda _channel: self.count,
            crowd_size=200,
            crowd_resume=160,
            crowd_seconds=0,
        )

    def a_member(self, user_id: UserId, *, watches: bool = True, live_from: int = 0) -> AMember:
        member = AMember(user_id)
        self.manager.connect(member)
        self.manager.subscribe(member, ROOM, live_from).watches = watches
        return member


@pytest.fixture
def lobby() -> Lobby:
    return Lobby()


@pytest.mark.parametrize("joined", [True, False])
def test_others_are_told_who_came_and_went_but_not_the_users_own_tabs(
    lobby: Lobby, joined: bool
) -> None:
    ann, ben, arriving = (
        lobby.a_member(ANN),
        lobby.a_member(BEN),
        lobby.a_member(CEM, watches=False),
    )

    lobby.fanout.change_presence(PresenceChange(ROOM, ANN, "Ann", joined, 2))

    kind = "user_joined" if joined else "user_left"
    assert [json.loads(frame[2:]) for frame in ben.sent] == [
        {"type": kind, "user_id": 1, "name": "Ann", "count": 2}
    ]
    assert ann.sent == arriving.sent == []


def test_all_who_are_live_get_the_very_same_frame(lobby: Lobby) -> None:
    ann, ben, arriving = lobby.a_member(ANN), lobby.a_member(BEN), lobby.a_member(CEM, live_from=6)

    lobby.fanout.publish(ROOM, 5, Publication(data=1).encode())

    assert lobby.turn, "they are due now, and leave at the end of the turn"
    lobby.turn[0]()
    assert ann.connection.written[0] is ben.connection.written[0]
    assert arriving.connection.written == []
    assert lobby.registry.get_sample_value("hubbub_deliveries_total") == 2


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
def test_what_nobody_can_read_is_skipped_and_counted(lobby: Lobby, payload: bytes) -> None:
    ann = lobby.a_member(ANN)

    lobby.fanout.publish(ROOM, 5, payload)

    assert not lobby.turn
    assert not ann.sent
    assert lobby.registry.get_sample_value("hubbub_publications_skipped_total") == 1


def test_a_flood_of_what_nobody_can_read_is_counted_and_said_once(lobby: Lobby) -> None:
    lobby.a_member(ANN)

    with capture_logs() as logs:
        for offset in range(5, 105):
            lobby.fanout.publish(ROOM, offset, b'{"data":1e400}')

    assert lobby.registry.get_sample_value("hubbub_publications_skipped_total") == 100
    assert [line for line in logs if line["event"] == "publication_unreadable"] == [
        {
            "event": "publication_unreadable",
            "log_level": "warning",
            "offset": 5,
            "reason": "a number that is not finite",
        }
    ]


def publish_to_stalled(lobby: Lobby) -> None:
    lobby.fanout.publish(ROOM, 5, Publication(data=1).encode())


def let_somebody_come(lobby: Lobby) -> None:
    lobby.fanout.change_presence(PresenceChange(ROOM, DEE, "Dee", joined=True, count=4))


def start_over(lobby: Lobby) -> None:
    lobby.fanout.start_over(RETENTION)


def send_to_user(lobby: Lobby) -> None:
    lobby.manager.send_to_user(ANN, lambda _protocol: text_frame(b"for you"))


@pytest.mark.parametrize("do", [publish_to_stalled, let_somebody_come, start_over, send_to_user])
def test_what_fails_for_one_member_costs_that_member_and_nobody_else(
    lobby: Lobby, do: Callable[[Lobby], None]
) -> None:
    members = [lobby.a_member(ANN) for _ in range(3)]
    for member in members:
        member.connection.pending = STALLED
    members[1].fails = True

    do(lobby)

    assert [len(member.sent) + len(member.told) for member in members] == [1, 0, 1]
    assert [member.failures for member in members] == [[], ["a member that fails"], []]


async def test_a_member_that_fails_keeps_no_crowd_from_hearing_how_many_it_is(
    lobby: Lobby,
) -> None:
    members = [lobby.a_member(ANN), lobby.a_member(BEN), lobby.a_member(CEM)]
    members[1].fails = True
    lobby.count = 300
    lobby.fanout.change_presence(PresenceChange(ROOM, DEE, "Dee", joined=True, count=300))

    async with running(lobby.fanout.run):
        await until(lambda: bool(members[2].sent))

    assert [len(member.sent) for member in members] == [1, 0, 1]
    assert members[1].failures == ["a member that fails"]


@pytest.mark.parametrize(("reason", "told"), [(RETENTION, "too_old"), (EPOCH_CHANGED, "epoch")])
def test_a_jump_of_the_stream_is_told_to_everybody(lobby: Lobby, reason: str, told: str) -> None:
    members = [lobby.a_member(ANN), lobby.a_member(BEN)]

    lobby.fanout.start_over(reason)

    assert [member.told for member in members] == [[told], [told]]
