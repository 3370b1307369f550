"""In which turn commands are executed, and what ends that; the bus answers when told to."""

import asyncio
import gc
import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.channels.namespaces import Namespaces
from gateway.channels.registry import ConnectionManager
from gateway.errors import EndReason
from gateway.metrics import GatewayMetrics
from gateway.presence.presence import Presence
from gateway.protocols.chat.announcements import Announcements
from gateway.protocols.chat.client import ChatClient
from gateway.protocols.chat.codec import BadCommand, decode_command
from gateway.protocols.chat.handshake import read_handshake
from gateway.protocols.chat.service import ChatService, tell_hole
from gateway.session.access import Access, Authenticator, Occupancy, UserLimit
from gateway.session.buckets import Buckets
from gateway.session.rate import RateLimits
from gateway.session.session import SessionKind
from gateway.settings import GatewaySettings
from gateway.streams.catch_up import CatchUp
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.publishing import ChannelPublisher, IdReused, OnDone, PublishResult
from gateway.transport.shared_state import Work
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import Publication, StoredPublication
from hubbub_client.jetstream.publisher import PubAck
from hubbub_client.nats.errors import BusUnavailable
from shared.tokens.claims import Claims
from shared.tokens.errors import InvalidToken
from tests.gateway.transport.transports import AHub, ATransport, a_connection

CLAIMS = Claims(UserId("1"), "Ann", None, issued_at=0, expires_at=2**40)
DUPLICATE = PubAck(9, duplicate=True)
OF_ANOTHER = PubAck(8, duplicate=True)


class ABus(ChannelPublisher):
    """What was published and not answered."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._asked: list[OnDone] = []

    def send_by_user(
        self,
        channel: ChannelName,
        publication: Publication,
        on_done: OnDone,
        *,
        client_id: str | None = None,
    ) -> None:
        assert not self._asked, "one of a connection at a time"
        self.sent.append(publication.data["body"])
        self._asked.append(on_done)

    def answer(self, answer: int | PublishResult) -> None:
        self._asked.pop()(PubAck(answer, duplicate=False) if isinstance(answer, int) else answer)

    async def resolve_duplicate(self, ack: PubAck, data: Any) -> int:
        await asyncio.sleep(0)
        if data != {"body": "a"} or ack == OF_ANOTHER:
            raise IdReused
        return ack.offset


class AnAuthenticator:
    def __init__(self) -> None:
        self.over = False
        self.is_defect = False
        self.renewed = 0

    def verify_at_once(self, token: str, *, allow_anonymous: bool = False) -> Claims:
        return CLAIMS

    def confirm(self, claims: Claims, *, grace_seconds: float = 0.0) -> None:
        if self.over:
            raise InvalidToken("the session is over")

    async def verify(self, token: str, *, allow_anonymous: bool = False) -> Claims:
        await asyncio.sleep(0)
        if self.is_defect:
            raise RuntimeError("a defect")
        if token == "bad":
            raise InvalidToken("bad")
        self.renewed += 1
        return CLAIMS


class AStream(CatchUp):
    """Stands at an offset, so that whoever comes has missed nothing."""

    def __init__(self) -> None: ...

    position = 7
    epoch = "e"

    def recent_together(
        self, channels: Iterable[ChannelName], offset: int, epoch: str | None
    ) -> list[StoredPublication]:
        return []


class APresence:
    """Says when a tab is present; that is when it is welcomed."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[bool], None]] = []

    def arrive(self) -> None:
        self._waiting.pop()(True)

    def when_present(
        self, _channel: ChannelName, _user: UserId, _seconds: float, tell: Callable[[bool], None]
    ) -> None:
        self._waiting.append(tell)

    def count(self, _channel: ChannelName) -> int:
        return 1

    def has(self, _channel: ChannelName, _user: UserId) -> bool:
        return False

    def users(self, _channel: ChannelName, _limit: int) -> list[tuple[UserId, str]]:
        return []


class WorkInNoGroup(Work):
    def __init__(self) -> None:
        super().__init__(on_end=lambda: None)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


class ATab:
    """A client that was admitted, two of whose commands may wait."""

    def __init__(self) -> None:
        self.hub = AHub()
        self.hub.shared.work = self.work = WorkInNoGroup()
        self.transport = ATransport()
        self.connection = a_connection(self.hub, self.transport)
        self.bus = ABus()
        self.authenticator = AnAuthenticator()
        self.presence = APresence()
        self.metrics = GatewayMetrics(CollectorRegistry())
        manager = ConnectionManager(self.hub.shared.coalescer)
        presence = cast(Presence, self.presence)
        announcements = Announcements(
            manager, presence, crowd_size=9, crowd_resume=8, crowd_seconds=1
        )
        sessions = SessionKind(
            access=Access(
                cast(Authenticator, self.authenticator),
                Occupancy(max_connections=0, max_per_address=0),
                UserLimit(0, here=lambda _: 0, elsewhere=lambda _: 0),
                Buckets(units_per_second=0, burst=1, max_users=1),
                not_ready=list,
            ),
            manager=manager,
            namespaces=Namespaces(),
            catch_up=AStream(),
            publisher=self.bus,
            ephemeral=cast(EphemeralFeed, None),
            metrics=self.metrics,
            enter=lambda *_: None,
            leave=lambda *_: None,
            on_hole=tell_hole,
            on_caught_up=announcements.tell_who_is_here,
        )
        service = ChatService(
            sessions,
            presence,
            announcements,
            RateLimits(commands_per_second=0, burst=1, max_refusals=1),
            GatewaySettings(nats_url="nats://nowhere", max_waiting_commands=2),
        )
        self.client = ChatClient(self.connection, read_handshake({"token": "t"}, []), service)
        self.connection.open(self.client)
        self.client.open()

    def welcome(self) -> None:
        self.presence.arrive()
        assert self.told == [("welcome", None)]
        self.transport.written.clear()

    def say(self, *bodies: str) -> None:
        for body in bodies:
            self.send("message", id=body, body=body)

    def send(self, kind: str, **fields: str) -> None:
        self.client.received(json.dumps({"type": kind, **fields}))

    async def until_done(self) -> None:
        async with asyncio.timeout(5):
            for task in self.work.tasks:
                await task

    @property
    def told(self) -> list[Any]:
        """What it has been sent: type, and id or code."""
        self.hub.end_turn()
        texts = [_text(each) for each in b"".join(self.transport.written).split(b"\x81")[1:]]
        messages = [json.loads(text) for text in texts]
        return [(each["type"], each.get("code") or each.get("id")) for each in messages]


def clients() -> int:
    """How many there are in this process."""
    return sum(type(each) is ChatClient for each in gc.get_objects())


def _text(frame: bytes) -> bytes:
    return frame[frame.index(b"{") :]


@pytest.fixture
async def tab() -> ATab:
    tab = ATab()
    tab.welcome()
    return tab


async def test_one_publication_is_under_way_and_the_others_follow_in_their_order(tab: ATab) -> None:
    tab.say("a", "b", "c")
    assert tab.bus.sent == ["a"]
    tab.bus.answer(11)
    assert tab.bus.sent == ["a", "b"]
    tab.bus.answer(12)
    tab.bus.answer(13)

    assert tab.bus.sent == ["a", "b", "c"]
    assert tab.told == [("ack", "a"), ("ack", "b"), ("ack", "c")]


async def test_a_ping_is_answered_out_of_its_turn_and_a_bad_command_in_it(tab: ATab) -> None:
    tab.say("a")
    tab.send("nonsense")
    tab.send("ping")
    assert tab.told == [("pong", None)]
    tab.bus.answer(11)
    assert tab.told == [("pong", None), ("ack", "a"), ("error", "unknown_type")]


async def test_before_the_welcome_everything_waits_even_a_ping() -> None:
    tab = ATab()
    tab.send("ping")
    tab.say("a")
    assert (tab.told, tab.bus.sent) == ([], [])
    tab.presence.arrive()
    assert (tab.told, tab.bus.sent) == ([("welcome", None), ("pong", None)], ["a"])


async def test_the_peer_waits_while_too_many_wait_and_what_it_sent_stays_in_order(
    tab: ATab,
) -> None:
    tab.say("a", "b")
    assert tab.transport.is_reading
    tab.say("c")
    assert not tab.transport.is_reading
    resume, ready = tab.transport.resume_reading, iter(["d"])

    def resume_with_more() -> None:
        resume()
        tab.say(*ready)

    tab.transport.resume_reading = resume_with_more
    for offset in range(11, 15):
        tab.bus.answer(offset)
    assert tab.bus.sent == ["a", "b", "c", "d"]
    assert tab.transport.is_reading


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (BusUnavailable("no answer"), ("error", "unavailable")),
        (DUPLICATE, ("ack", "a")),
        (OF_ANOTHER, ("error", "id_reused")),
    ],
)
async def test_whatever_becomes_of_one_the_next_comes_after_it(
    tab: ATab, answer: int | PublishResult, told: tuple[str, str]
) -> None:
    tab.say("a", "b")
    tab.bus.answer(answer)
    await tab.until_done()
    assert tab.bus.sent == ["a", "b"]
    tab.bus.answer(12)
    assert tab.told == [told, ("ack", "b")]


@pytest.mark.parametrize(("token", "renewed"), [("good", 1), ("bad", 0)])
async def test_what_comes_behind_a_new_token_waits_for_its_check(
    tab: ATab, token: str, renewed: int
) -> None:
    tab.send("auth", token=token)
    tab.say("a")
    assert tab.bus.sent == []
    await tab.until_done()
    assert tab.bus.sent == ["a"]
    assert tab.authenticator.renewed == renewed


async def test_what_waited_of_a_session_that_ended_is_not_published(tab: ATab) -> None:
    tab.say("a", "b")
    tab.authenticator.over = True
    tab.bus.answer(11)
    assert tab.bus.sent == ["a"]
    assert tab.told == [("ack", "a"), ("error", "invalid_token")]


async def test_what_came_before_the_peer_left_is_done_and_then_nothing_is_kept(tab: ATab) -> None:
    tab.say("a", "b")
    tab.connection.connection_lost(None)
    gc.disable()
    try:
        before = clients()
        del tab.client
        tab.bus.answer(11)
        assert clients() == before
        tab.bus.answer(12)
        assert tab.bus.sent == ["a", "b"]
        assert clients() == before - 1, "nothing refers to it any more, itself neither"
    finally:
        gc.enable()


async def test_what_waits_when_we_close_is_not_done(tab: ATab) -> None:
    tab.say("a", "b")
    tab.connection.close(EndReason.RESTARTING)
    tab.connection.connection_lost(None)
    tab.bus.answer(11)
    assert tab.bus.sent == ["a"]
    assert tab.work.is_done


@pytest.mark.parametrize("answer", [11, BusUnavailable("no answer"), DUPLICATE])
async def test_the_hub_knows_of_what_is_under_way_until_it_is_answered(
    tab: ATab, answer: int | PublishResult
) -> None:
    tab.say("a")
    assert not tab.work.is_done
    tab.bus.answer(answer)
    assert tab.work.is_done
    await tab.until_done()


async def test_an_answer_that_fails_ends_this_connection_and_is_logged(
    tab: ATab, capsys: pytest.CaptureFixture[str]
) -> None:
    tab.say("a")
    tab.bus.answer(cast(PubAck, object()))
    assert tab.connection.closing is EndReason.INTERNAL_ERROR
    assert tab.work.is_done
    assert "command_failed" in capsys.readouterr().out


async def test_a_command_that_fails_costs_the_connection_and_what_waits_behind_it(
    tab: ATab,
) -> None:
    tab.authenticator.is_defect = True
    tab.send("auth", token="t")
    tab.say("behind")
    await asyncio.wait(tab.work.tasks)

    assert tab.connection.closing is EndReason.INTERNAL_ERROR
    assert tab.bus.sent == []


async def test_a_command_that_waits_to_be_refused_holds_nothing_of_what_came() -> None:
    for text in ("{" * 100, json.dumps({"type": "message", "body": "x" * 50_000})):
        with pytest.raises(BadCommand) as refused:
            decode_command(text)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None
