"""The connection on a real server that dies, hangs, refuses and comes back."""

import asyncio
import time
import traceback

import psutil
import pytest

from hubbub_client.nats.address import BadAddress
from hubbub_client.nats.client import Bus, BusLost, BusUnavailable, MessageRejected, connect_bus
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.tcp import a_tcp_server
from tests.fixtures.waiting import eventually

TURNS_OF_CONNECTING = 25
"""Of the loop: more than it takes until the client waits for what the server says."""
TURNS_OF_CLOSING = 5


def send_until_refused(bus: Bus) -> None:
    for _ in range(10_000):
        bus.send("a", bytes(100_000))


def sockets_to(server: NatsServer) -> int:
    connections = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == server.port for c in connections)


async def fill_the_pipe(bus: Bus) -> None:
    """Fill the sockets' own buffers first, then ours."""
    for _ in range(3):
        with pytest.raises(BusUnavailable):
            send_until_refused(bus)
        await asyncio.sleep(0.01)  # for the socket to take what it can


async def test_an_absent_server_holds_up_nobody_and_is_found_when_it_comes(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    server.stop()
    heard: list[bytes] = []

    async with connect_bus(server.url, name="test") as bus:
        assert not bus.connected
        await bus.subscribe("a", lambda _s, payload, _h, _r: heard.append(payload))
        with pytest.raises(BusUnavailable):
            bus.send("a", b"")
        with pytest.raises(BusUnavailable):
            await bus.request("a", b"", timeout_seconds=1)

        server.start()
        async with asyncio.timeout(20):
            await bus.until_connected()
        bus.send("a", b"subscribed before there was a server")
        await eventually(lambda: len(heard) == 1)


async def test_closing_takes_no_server_and_no_connection() -> None:
    for turns in (0, 1):  # with one it has begun to connect
        async with (
            asyncio.timeout(20),
            connect_bus("nats://127.0.0.1:1", name="test", connect_seconds=60, close_seconds=60),
        ):
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_closing_does_not_wait_for_a_server_that_hangs(nats_server: StartServer) -> None:
    server = nats_server()

    async with connect_bus(server.url, name="test", close_seconds=0.2) as bus:
        await bus.until_connected()
        server.pause()
        for _ in range(7):
            bus.send("a", bytes(1_000_000))
        began_at = time.monotonic()

    assert time.monotonic() - began_at < 5
    await eventually(lambda: sockets_to(server) == 0)


@pytest.mark.parametrize("was_connected", [False, True])
async def test_closing_in_any_turn_of_connecting_ends_the_connection(was_connected: bool) -> None:
    """In one of them asyncio.wait_for, in nats-py, swallows the cancel."""
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        if was_connected and len(served) == 1:  # welcome it, and turn it away
            writer.write(b'INFO {"max_payload": 1000}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
        else:
            await reader.read()
        writer.close()

    for turns in range(TURNS_OF_CONNECTING):
        served.clear()
        async with asyncio.timeout(20), a_tcp_server(serve) as port:
            url = f"nats://127.0.0.1:{port}"
            async with connect_bus(url, name="test", reconnect_seconds=0) as bus:
                if was_connected:
                    lost = asyncio.Event()
                    bus.on_disconnected(lost.set)
                    await lost.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
            await asyncio.gather(*served)


async def test_closing_that_is_cancelled_ends_the_connection_all_the_same() -> None:
    served: list[asyncio.Task[None]] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        await reader.read()
        writer.close()

    async def live(port: int) -> None:
        async with connect_bus(f"nats://127.0.0.1:{port}", name="test"):
            await asyncio.Event().wait()

    for turns in range(TURNS_OF_CLOSING):
        served.clear()
        async with asyncio.timeout(20), a_tcp_server(say_nothing) as port:
            async with asyncio.TaskGroup() as group:
                living = group.create_task(live(port))
                await eventually(lambda: bool(served))
                living.cancel()
                for _ in range(turns):
                    await asyncio.sleep(0)
                living.cancel()
            await asyncio.gather(*served)


async def test_what_is_wrong_with_each_of_several_servers_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    visits: list[asyncio.StreamWriter] = []

    def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer)
        writer.close()

    async with a_tcp_server(turn_away) as port:
        urls = f"nats://127.0.0.1:1,nats://127.0.0.1:{port}"
        async with connect_bus(urls, name="test", reconnect_seconds=0.001):
            await eventually(lambda: len(visits) > 4)

    logged = [str(record.msg) for record in caplog.records]
    assert [line.partition(" ")[0] for line in logged] == ["bus_error"] * 2
    assert logged[0] != logged[1]


async def test_an_address_that_is_none_is_said_and_not_tried_for_ever() -> None:
    with pytest.raises(BadAddress, match="'nats://' is not the address"):
        async with asyncio.timeout(20), connect_bus("nats://", name="test"):
            await asyncio.Event().wait()


async def test_an_address_that_is_none_is_said_without_its_password() -> None:
    url = (
        "nats://me:sesame/@a,nats://me:sesame@b"  # urllib takes what is before the slash for a port
    )
    with pytest.raises(BadAddress, match="'nats://a'") as caught:
        async with asyncio.timeout(20), connect_bus(url, name="test"):
            await asyncio.Event().wait()

    assert "sesame" not in "".join(traceback.format_exception(caught.value))


async def test_a_failure_in_the_body_comes_out_as_it_is(nats_url: str) -> None:
    with pytest.raises(LookupError):
        async with connect_bus(nats_url, name="test"):
            raise LookupError


async def test_nobody_there_is_unavailable_at_once(bus: Bus) -> None:
    began_at = time.monotonic()

    with pytest.raises(BusUnavailable):
        await bus.request("nobody.listens", b"", timeout_seconds=50)

    assert time.monotonic() - began_at < 20


async def test_no_answer_is_unavailable_at_the_deadline(bus: Bus) -> None:
    await bus.subscribe("silent.test", lambda *_message: None)

    with pytest.raises(BusUnavailable):
        await bus.request("silent.test", b"", timeout_seconds=0.05)


async def test_what_is_asked_when_the_connection_is_lost_is_unavailable_at_once(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, asyncio.TaskGroup() as group:
        await bus.until_connected()
        await bus.subscribe("silent", lambda *_message: None)

        async def ask() -> None:
            with pytest.raises(BusUnavailable, match="lost"):
                await bus.request("silent", b"", timeout_seconds=30)

        asking = group.create_task(ask())
        await asyncio.sleep(0)
        server.kill()
        async with asyncio.timeout(20):
            await asking


async def test_a_message_that_is_too_large_is_rejected_and_the_connection_stays(
    nats_server: StartServer,
) -> None:
    server = nats_server("max_payload: 1000")
    downs: list[int] = []

    async with connect_bus(server.url, name="test") as bus:
        await bus.until_connected()
        bus.on_disconnected(lambda: downs.append(1))
        assert bus.max_payload == 1000
        with pytest.raises(MessageRejected):
            bus.send("a", bytes(990), headers=b"NATS/1.0\r\nA: b\r\n\r\n")
        bus.send("a", bytes(1000))
        await bus.request("$JS.API.INFO", b"", timeout_seconds=20)

    assert downs == [1]  # our own close


@pytest.mark.parametrize(
    "subject", ["", "a b", "a\r\nPUB b 0", "a..b", ".a", "a.", "a.*", "a.>", "ü", "a" * 5000]
)
async def test_a_subject_that_is_none_is_rejected_and_the_connection_stays(
    bus: Bus, subject: str
) -> None:
    with pytest.raises(MessageRejected):
        bus.send(subject, b"")

    await bus.request("$JS.API.INFO", b"", timeout_seconds=20)


async def test_what_cannot_be_sent_is_bounded(nats_server: StartServer) -> None:
    server = nats_server()

    async with connect_bus(
        server.url, name="test", max_pending_bytes=100_000, close_seconds=0.1
    ) as bus:
        await bus.until_connected()
        server.pause()

        with pytest.raises(BusUnavailable):
            send_until_refused(bus)


async def test_a_server_that_hangs_with_a_full_pipe_is_left_and_found_again(
    nats_server: StartServer,
) -> None:
    """Closing politely would wait until it had read what is unsent: for ever."""
    server = nats_server()

    async with connect_bus(server.url, name="test", ping_seconds=0.1, close_seconds=0.5) as bus:
        await bus.until_connected()
        server.pause()
        await fill_the_pipe(bus)
        await eventually(lambda: not bus.connected, seconds=20)
        server.go_on()
        async with asyncio.timeout(20):
            await bus.until_connected()
        await bus.request("$JS.API.INFO", b"", timeout_seconds=20)


async def test_a_connection_that_is_closed_for_good_ends_the_body(
    nats_server: StartServer,
) -> None:
    server = nats_server("max_subscriptions: 3")

    async def live() -> None:
        async with connect_bus(server.url, name="test") as bus:
            await bus.until_connected()
            for number in range(5):
                await bus.subscribe(f"a.{number}", lambda *_message: None)
            await asyncio.Event().wait()

    with pytest.raises(BusLost):
        async with asyncio.timeout(10):
            await live()


async def test_refused_credentials_are_no_reason_to_end_and_leak_no_sockets(
    nats_server: StartServer,
) -> None:
    users = "authorization {{ users: [ {{ user: {}, password: p }} ] }}"
    server = nats_server(users.format("ann"))
    url = server.url.replace("//", "//ann:p@")

    async with connect_bus(url, name="test", reconnect_seconds=0.01) as bus:
        await bus.until_connected()
        server.reload(users.format("bob"))
        await eventually(lambda: server.log.count("authentication error") > 10)
        assert sockets_to(server) <= 2
        server.reload(users.format("ann"))
        await eventually(lambda: bus.connected)


async def test_callbacks_that_raise_stop_neither_the_others_nor_the_reconnect(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    calls: list[str] = []

    def fail() -> None:
        raise RuntimeError("a callback must not raise")

    async with connect_bus(server.url, name="test") as bus:
        bus.on_connected(fail)
        bus.on_disconnected(fail)
        bus.on_connected(lambda: calls.append("up"))
        detach = bus.on_disconnected(lambda: calls.append("down"))
        await eventually(lambda: calls == ["up"])
        server.kill()
        await eventually(lambda: calls == ["up", "down"])
        server.start()
        await eventually(lambda: calls == ["up", "down", "up"])
        detach()

    assert calls == ["up", "down", "up"]


async def test_what_was_unsent_when_the_connection_was_lost_is_not_sent_later(
    nats_server: StartServer,
) -> None:
    """Its sender has given up or tries again under the same id; a late one would be a ghost."""
    server = nats_server()
    heard: list[bytes] = []

    # Longer than it takes to fill the pipe, or it is left before.
    async with connect_bus(server.url, name="test", ping_seconds=1.5) as bus:
        await bus.subscribe("a", lambda _s, payload, _h, _r: heard.append(payload[:1]))
        await bus.until_connected()
        server.pause()
        await fill_the_pipe(bus)
        assert bus.connected
        await eventually(lambda: not bus.connected, seconds=20)
        heard.clear()
        server.kill()
        server.start()
        async with asyncio.timeout(20):
            await bus.until_connected()
        bus.send("a", b"1")
        await eventually(lambda: b"1" in heard)

    assert heard == [b"1"]
