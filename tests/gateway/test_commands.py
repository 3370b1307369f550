"""In which turn commands are executed, and what ends that; the bus answers when told to."""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.channels.namespaces import Namespaces
from gateway.errors import EndReason
from gateway.metrics import GatewayMetrics
from gateway.protocols.chat.close_codes import CLOSE_CODES
from gateway.protocols.chat.codec import BadCommand, decode_command
from gateway.session.commands import Commands
from gateway.session.parts import Authenticator, ChatParts
from gateway.session.rate import RateLimits
from gateway.settings import GatewaySettings
from gateway.streams.publishing import ChannelPublisher, IdReused, OnDone, PublishResult
from gateway.transport.frames import Close
from gateway.transport.shared_state import Work
from shared.contracts.channels import room_channel
from shared.contracts.ids import ChannelName, UserId
from shared.contracts.publications import Sender
from shared.jetstream.publisher import PubAck
from shared.nats.errors import BusUnavailable
from shared.tokens.access_tokens import Claims, InvalidToken
from shared.web.user_rates import UserRates
from tests.gateway.transport.transports import AHub, ATransport, a_connection

CLAIMS = Claims(UserId("1"), "Ann", None, issued_at=0, expires_at=1)
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
        sender: Sender,
        data: Any,
        on_done: OnDone,
        *,
        client_id: str | None = None,
    ) -> None:
        assert not self._asked, "one of a connection at a time"
        self.sent.append(data["body"])
        self._asked.append(on_done)

    def answer(self, answer: int | PublishResult) -> None:
        self._asked.pop()(PubAck(answer, duplicate=False) if isinstance(answer, int) else answer)

    async def resolve_duplicate(self, ack: PubAck, data: Any) -> int:
        await asyncio.sleep(0)
        if data != {"body": "a"} or ack == OF_ANOTHER:
            raise IdReused
        return ack.offset


class AGuard:
    def __init__(self) -> None:
        self.over = False
        self.is_defect = False

    def confirm(self, claims: Claims) -> None:
        if self.over:
            raise InvalidToken("the session is over")

    async def verify(self, token: str) -> Claims:
        await asyncio.sleep(0)
        if self.is_defect:
            raise RuntimeError("a defect")
        if token == "bad":
            raise InvalidToken("bad")
        return CLAIMS


class WorkInNoGroup(Work):
    def __init__(self) -> None:
        super().__init__(on_end=lambda: None)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


class ATab:
    """A session that has nothing but commands, two of which may wait."""

    claims = CLAIMS
    admitted_as = CLAIMS.user_id
    room = room_channel("lobby")
    place = 7
    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES

    def __init__(self) -> None:
        self.hub = AHub()
        self.hub.shared.work = self.work = WorkInNoGroup()
        self.transport = ATransport()
        self.connection = a_connection(self.hub, self.transport)
        self.bus = ABus()
        self.guard = AGuard()
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.renewed = 0
        self.is_silent = False
        parts = {
            "guard": cast(Authenticator, self.guard),
            "publisher": self.bus,
            "namespaces": Namespaces(),
            "metrics": self.metrics,
            "rate_limits": RateLimits(commands_per_second=0, burst=1, max_refusals=1),
            "user_rates": UserRates(units_per_second=0, burst=1, max_users=1),
            "settings": GatewaySettings(nats_url="nats://nowhere", max_waiting_commands=2),
        }
        needless = dict.fromkeys(ChatParts.__slots__)
        self.commands = Commands(self, ChatParts(**{**needless, **parts}))  # type: ignore[arg-type]
        self.connection.open(self)

    def renew(self, claims: Claims) -> None:
        self.renewed += 1

    def let_go(self) -> None:
        self.is_silent = True

    def received(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        self.commands.take(message)

    def lost(self, close: Close) -> None: ...

    def say(self, *bodies: str) -> None:
        for body in bodies:
            self.commands.take(json.dumps({"type": "message", "id": body, "body": body}))

    def send(self, kind: str, **fields: str) -> None:
        self.commands.take(json.dumps({"type": kind, **fields}))

    async def until_done(self) -> None:
        async with asyncio.timeout(5):
            for task in self.work.tasks:
                await task

    @property
    def told(self) -> list[Any]:
        """What it has been sent: type, and id or code."""
        self.hub.end_turn()
        texts = b"".join(self.transport.written).split(b"\x81")[1:]
        messages = [json.loads(text[1:]) for text in texts]
        return [(each["type"], each.get("code") or each.get("id")) for each in messages]


@pytest.fixture
async def tab() -> ATab:
    tab = ATab()
    tab.commands.open()
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
    tab.commands.open()
    assert (tab.told, tab.bus.sent) == ([("pong", None)], ["a"])


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
    assert tab.renewed == renewed


async def test_what_waited_of_a_session_that_ended_is_not_published(tab: ATab) -> None:
    tab.say("a", "b")
    tab.guard.over = True
    tab.bus.answer(11)
    assert tab.bus.sent == ["a"]
    assert tab.told == [("ack", "a"), ("error", "invalid_token")]


async def test_what_came_before_the_peer_left_is_done_and_then_nothing_is_kept(tab: ATab) -> None:
    tab.say("a", "b")
    tab.connection.connection_lost(None)
    assert not tab.commands.is_idle
    tab.bus.answer(11)
    assert not tab.is_silent
    tab.bus.answer(12)
    assert tab.bus.sent == ["a", "b"]
    assert tab.is_silent


async def test_what_waits_when_we_close_is_not_done(tab: ATab) -> None:
    tab.say("a", "b")
    tab.connection.close(EndReason.RESTARTING)
    tab.connection.connection_lost(None)
    tab.bus.answer(11)
    assert tab.bus.sent == ["a"]
    assert tab.is_silent


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
    assert tab.commands.is_idle
    assert tab.work.is_done
    assert "command_failed" in capsys.readouterr().out


async def test_a_command_that_fails_costs_the_connection_and_what_waits_behind_it(
    tab: ATab,
) -> None:
    tab.guard.is_defect = True
    tab.send("auth", token="t")
    tab.say("behind")
    await asyncio.wait(tab.work.tasks)

    assert tab.connection.closing is EndReason.INTERNAL_ERROR
    assert tab.commands.is_idle
    assert tab.bus.sent == []


async def test_a_command_that_waits_to_be_refused_holds_nothing_of_what_came() -> None:
    for text in ("{" * 100, json.dumps({"type": "message", "body": "x" * 50_000})):
        with pytest.raises(BadCommand) as refused:
            decode_command(text)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None
