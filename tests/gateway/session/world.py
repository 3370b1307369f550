"""Sessions over a model of the stream, each with a list where its connection would be."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from prometheus_client import CollectorRegistry

from gateway.channels.connection import Frame
from gateway.channels.namespaces import Namespaces
from gateway.channels.options import Namespace
from gateway.channels.registry import ConnectionManager, Fanout
from gateway.metrics import GatewayMetrics
from gateway.session.access import Access, Authenticator, Occupancy, UserLimit
from gateway.session.buckets import Buckets
from gateway.session.session import Session, SessionKind
from gateway.streams.catch_up import CatchUp, CatchUpLimits
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.feed import Feed, Reason
from gateway.streams.history import History, HistoryLimits
from gateway.streams.publishing import ChannelPublisher
from gateway.streams.ring import Ring
from gateway.streams.shared_reads import SharedReads
from gateway.transport.coalescer import WriteCoalescer
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_PUB
from shared.tokens.claims import Claims
from tests.gateway.connections import AConnection
from tests.gateway.streams.model_stream import ModelStream

ANN = UserId("1")
A, B, C = (ChannelName(f"post:{name}") for name in "abc")
BRIEF = ChannelName("brief:x")
NAMESPACES = {"post": Namespace(presence=True), "brief": Namespace(history=False)}


def encode(publication: StoredPublication) -> Frame:
    return Frame(b"%d " % publication.offset)


class World:
    """One gateway without sockets: what is published reaches it when the test says so."""

    def __init__(
        self, *, ring_size: int = 4, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """
        Args:
            meanwhile: Awaited while the stream is read.
        """
        self.stream = ModelStream() if meanwhile is None else ModelStream(meanwhile=meanwhile)
        self.ring = Ring(max_count=ring_size, max_bytes=10_000)
        self.epoch, self.position, self.resets = self.stream.epoch, 0, 0
        self.last_reset = Reason.EPOCH
        self.turn: list[Callable[[], None]] = []
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics(self.registry)
        self.manager = ConnectionManager(WriteCoalescer(self.turn.append))
        self.fanout = Fanout(self.manager, metrics)
        self.holes: list[tuple[list[ChannelName], Reason]] = []
        self.presence: list[str] = []
        feed = cast(Feed, self)
        self.kind = SessionKind(
            access=Access(
                cast(Authenticator, None),
                Occupancy(max_connections=0, max_per_address=0),
                UserLimit(0, here=lambda _: 0, elsewhere=lambda _: 0),
                Buckets(units_per_second=0, burst=1, max_users=1),
                not_ready=list,
            ),
            manager=self.manager,
            namespaces=Namespaces(NAMESPACES),
            catch_up=CatchUp(
                feed,
                SharedReads(feed, History(self.stream, HistoryLimits(retry_seconds=0.0001))),
                CatchUpLimits(replay_limit=1000, batch_count=2),
            ),
            publisher=cast(ChannelPublisher, None),
            ephemeral=cast(EphemeralFeed, None),
            metrics=metrics,
            enter=lambda *_: self.presence.append("enter"),
            leave=lambda *_: self.presence.append("leave"),
            on_hole=lambda _session, missed, reason: self.holes.append(
                ([each.channel for each in missed], reason)
            ),
            on_caught_up=lambda _session, _subscriptions: None,
        )

    def session(self, connection: AConnection, *channels: ChannelName) -> Session:
        """One that is live in these channels."""
        session = Session(
            connection, Claims(ANN, "Ann", None, issued_at=0, expires_at=2**40), self.kind
        )
        session.begin()
        subscriptions = [session.subscribe(channel, encode) for channel in channels]
        for subscription in subscriptions:
            subscription.live_from = self.position + 1
        return session

    def publish(self, *channels: ChannelName) -> None:
        for channel in channels:
            self.stream.add(channel, b"x")

    def deliver(self, count: int | None = None) -> None:
        """The feed hears of the next publications; the turn ends after each."""
        for message in self.stream.messages[self.position :][:count]:
            channel = ChannelName(message.subject.removeprefix(RT_PUB))
            self.position = message.sequence
            publication = StoredPublication(message.sequence, channel, message.payload)
            self.ring.append(publication)
            self.fanout.deliver(publication)
            self.end_turn()

    def end_turn(self) -> None:
        for flush in self.turn:
            flush()
        self.turn.clear()

    def begin_anew(self) -> None:
        """Another stream is in the place of this one."""
        self.stream.messages.clear()
        self.epoch = self.stream.epoch = f"{self.epoch}'"
        self.ring.clear()
        self.position = 0
        self.resets += 1
        self.fanout.start_over(Reason.EPOCH)


def offsets(connection: AConnection) -> list[int]:
    return [int(each) for each in b"".join(connection.sent).split()]


async def settled(condition: Callable[[], bool]) -> None:
    """Let what was started go on until the condition holds; it takes no time, only turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
