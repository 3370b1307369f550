"""For tests of presence: gateways that can be killed, and links that can be cut."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.presence.limits import PresenceLimits
from gateway.presence.presence import Presence
from gateway.presence.records import ClientInfo
from gateway.presence.table import ClientChange, PresenceChange
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.stream_configs import StreamSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.supervision import Supervisor
from tests.fixtures.tcp import a_tcp_server
from tests.fixtures.waiting import eventually

LOBBY = ChannelName("chat:lobby")
ANN, BOB, CLEO, DAN = UserId("1"), UserId("2"), UserId("3"), UserId("4")

QUICK = PresenceLimits(
    grace_seconds=0.4,
    lease_seconds=600,
    renew_seconds=0.4,
    hold_seconds=0.6,
    refresh_seconds=0.05,
    max_refresh_seconds=0.1,
    tombstone_seconds=1,
    tick_seconds=0.05,
    write_seconds=1,
    max_retry_seconds=0.2,
)
"""No lease expires, however busy the machine is; but for those of gateways with other limits."""
EXPIRING = replace(QUICK, lease_seconds=2)
PATIENT_SECONDS = 4.0
"""A hold in which a gateway on a busy machine writes its entries anew."""
GONE_SECONDS = 15.0
"""Until a killed gateway's users have left."""


async def never(condition: Callable[[], bool], *, seconds: float) -> None:
    """Assert that the condition stays false for this long."""
    try:
        await eventually(condition, seconds=seconds)
    except TimeoutError:
        return
    raise AssertionError("it came true")


@dataclass
class Gateway:
    """The presence of one gateway, and the changes that it reported."""

    bus: Bus
    publisher: Publisher
    presence: Presence
    changes: list[PresenceChange] = field(default_factory=list)
    client_changes: list[ClientChange] = field(default_factory=list)

    def enter(self, user_id: UserId, tab: str = "tab", info: ClientInfo | None = None) -> None:
        self.presence.enter(LOBBY, user_id, f"User {user_id}", ConnectionId(tab), info)

    def leave(self, user_id: UserId, tab: str = "tab") -> None:
        self.presence.leave(LOBBY, user_id, ConnectionId(tab))

    async def until_present(
        self, user_id: UserId, deadline_seconds: float, tab: str | None = None
    ) -> bool:
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.presence.when_present(
            LOBBY,
            user_id,
            deadline_seconds,
            told.set_result,
            connection=None if tab is None else ConnectionId(tab),
        )
        return await told

    @property
    def users(self) -> set[UserId]:
        return {user_id for user_id, _ in self.presence.users(LOBBY)}

    @property
    def tabs(self) -> set[str]:
        return {client.connection for client in self.presence.clients(LOBBY)}

    @property
    def told_of_tabs(self) -> list[tuple[str, str]]:
        return [
            (change.connection, "joined" if change.joined else "left")
            for change in self.client_changes
        ]

    @property
    def told(self) -> list[tuple[UserId, str, int]]:
        return [
            (change.user_id, "joined" if change.joined else "left", change.count)
            for change in self.changes
        ]


async def until_entries_in_the_stream(gateway: Gateway, count: int) -> list[StoredMessage]:
    async with asyncio.timeout(15):
        while len(entries := await entries_in_the_stream(gateway)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return entries


async def entries_in_the_stream(gateway: Gateway) -> list[StoredMessage]:
    found = await StreamReader(gateway.bus, "PRES").batch(
        {"seq": 1, "next_by_subj": "pres.st.*.*.*", "batch": 1000}
    )
    return [message for message in found.messages if message.payload]


def assert_alternating(gateway: Gateway) -> None:
    there: set[UserId] = set()
    for user_id, what, count in gateway.told:
        assert (user_id in there) is (what == "left")
        there ^= {user_id}
        assert count == len(there)


def assert_each_client_reported(gateway: Gateway) -> None:
    """Each connection joined and left in turns, and those that have not left are listed."""
    there: set[tuple[ChannelName, UserId, ConnectionId]] = set()
    for change in gateway.client_changes:
        client = (change.channel, change.user_id, change.connection)
        assert (client in there) is not change.joined
        there ^= {client}
    for channel in {channel for channel, _, _ in there} | {LOBBY}:
        listed = {
            (channel, each.user_id, each.connection) for each in gateway.presence.clients(channel)
        }
        assert listed == {client for client in there if client[0] == channel}


@asynccontextmanager
async def a_gateway(
    url: str,
    limits: PresenceLimits = QUICK,
    *,
    make_publisher: type[Publisher] = Publisher,
    follower_limits: FollowerLimits | None = None,
    marker_seconds: float = 10,
) -> AsyncGenerator[Gateway]:
    """A gateway that is caught up and has a lease. At the end it stops without releasing it."""
    changes: list[PresenceChange] = []
    client_changes: list[ClientChange] = []
    async with connect_bus(url, name="gateway") as bus, start_publisher(bus):
        await bootstrap(bus, StreamSettings(pres_marker_seconds=marker_seconds))
        publisher = make_publisher(bus)
        detach = bus.on_connected(publisher.send_again)
        presence = Presence(
            bus,
            publisher,
            on_change=changes.append,
            on_client_change=client_changes.append,
            is_watched=lambda _channel: True,
            limits=limits,
            follower_limits=follower_limits,
        )
        async with Supervisor().running(*presence.loops):
            await eventually(lambda: presence.caught_up and presence.node is not None)
            gateway = Gateway(bus, publisher, presence, changes, client_changes)
            yield gateway
            assert_each_client_reported(gateway)
        detach()
        publisher.stop()


class Link:
    """A TCP proxy that can be cut, so that only its clients lose the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.url = ""

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.close()

    def mend(self) -> None:
        self._is_cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        if self._is_cut:  # meanwhile
            self.cut()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(reader, far_writer))
            group.create_task(self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_link(port: int) -> AsyncGenerator[Link]:
    link = Link(port)
    async with a_tcp_server(link.serve) as near:
        link.url = f"nats://127.0.0.1:{near}"
        try:
            yield link
        finally:
            link.cut()
