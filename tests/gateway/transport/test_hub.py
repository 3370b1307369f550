"""The hub over real sockets, with receivers that know no protocol."""

import asyncio

import pytest
from websockets.asyncio.client import ClientConnection

from gateway.errors import EndReason
from gateway.transport.frames import Close, close_frame, text_frame
from gateway.transport.hub import Hub
from gateway.transport.websocket import WebSocketConnection
from shared.runtime.process import running
from tests.gateway.serving import until
from tests.gateway.transport.sockets import a_gateway, a_stalled_tab, ended, read_to_the_end
from tests.gateway.transport.transports import (
    CLOSE_CODES,
    AReceiver,
    ATransport,
    a_connection,
    some_limits,
)


async def test_texts_come_in_and_frames_go_out() -> None:
    async with a_gateway() as gateway, gateway.tab() as tab:
        for text in ("a", "ü\x00", "x" * 65000):
            await tab.send(text)
            assert await tab.recv() == text
        assert len(gateway.hub) == 1
        await tab.close(1000)
        await until(lambda: len(gateway.hub) == 0)

        assert gateway.echoes[0].ended == Close(1000, "")
        assert gateway.closes == [Close(1000, "")]


async def test_a_close_flushes_first() -> None:
    async with a_gateway() as gateway, gateway.tab() as tab:
        await tab.send("close")
        assert await tab.recv() == "goodbye"
        assert await ended(tab) == CLOSE_CODES[EndReason.SESSION_ENDED]


@pytest.mark.parametrize(
    ("send", "code"),
    [
        ("x" * 65537, 1009),
        ([" " * 40000, "x" * 40000], 1009),
    ],
)
async def test_a_message_that_is_too_big_ends_the_connection(
    send: str | bytes | list[str], code: int
) -> None:
    async with a_gateway() as gateway, gateway.tab() as tab:
        await tab.send(send)
        assert (await ended(tab))[0] == code


@pytest.mark.parametrize("command", ["fail", "fail later"])
async def test_a_receiver_that_raises_costs_one_connection_and_is_logged(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_gateway() as gateway, gateway.tab() as tab, gateway.tab() as other:
        await tab.send(command)
        assert await ended(tab) == CLOSE_CODES[EndReason.INTERNAL_ERROR]

        await other.send("still here")
        assert await other.recv() == "still here"
        assert "_failed" in capsys.readouterr().out


class Unchecked(WebSocketConnection):
    """As long as it is open, looking at it fails."""

    __slots__ = ()

    def check(self, now: float) -> None:
        if self.is_open:
            raise RuntimeError("a check that fails")
        super().check(now)


async def test_a_check_that_fails_costs_one_connection_and_the_sweep_goes_on() -> None:
    failures: list[None] = []
    late = EndReason.TOKEN_EXPIRED
    hub = Hub(some_limits(sweep_seconds=0.01), on_failed=lambda: failures.append(None))
    kinds = (WebSocketConnection, Unchecked, WebSocketConnection)
    connections = [a_connection(hub, ATransport(), kind) for kind in kinds]
    for connection in connections:
        connection.open(AReceiver())
        connection.close_after(0, late)
        connection.wakes_at = 0

    async with running(hub.run):
        await until(lambda: not any(connection.is_open for connection in connections))

    assert [connection.closing for connection in connections] == [
        late,
        EndReason.INTERNAL_ERROR,
        late,
    ]
    assert len(failures) == 1


class NotGivenUp(WebSocketConnection):
    """It can't be given up."""

    __slots__ = ()

    def _fail(self, close: EndReason | Close) -> None:
        raise RuntimeError("a connection that cannot be given up")


async def test_a_late_message_whose_connection_fails_to_end_costs_no_other_work() -> None:
    failures: list[None] = []
    hub = Hub(
        some_limits(sweep_seconds=0.01, message_seconds=0.01),
        on_failed=lambda: failures.append(None),
    )
    failing, working = (
        a_connection(hub, ATransport(), kind) for kind in (NotGivenUp, WebSocketConnection)
    )
    for connection in (failing, working):
        connection.open(AReceiver())
    async with hub.working(), running(hub.run):
        working.start(asyncio.Event().wait())  # type: ignore[arg-type]
        hub.reading.unfinished.count(failing, 1, is_another=False)
        await until(lambda: not failing.is_open)

        assert (failing.closing, working.is_open) == (EndReason.INTERNAL_ERROR, True)
        assert not working.transport.is_closing()
    assert len(failures) == 1


async def test_an_oldest_message_whose_connection_fails_to_end_costs_only_that() -> None:
    hub = Hub(some_limits(total_unfinished_bytes=100))
    failing = a_connection(hub, ATransport(), NotGivenUp)
    failing.open(AReceiver())

    hub.reading.unfinished.count(failing, 101, is_another=False)

    assert failing.closing == EndReason.INTERNAL_ERROR


async def test_work_goes_on_while_the_sweep_is_started_again() -> None:
    hub = Hub(some_limits())
    connection = a_connection(hub, ATransport())
    done = asyncio.Event()

    async def work() -> None:
        await done.wait()

    async with hub.working():
        async with running(hub.run):
            connection.start(work())
        connection.start(work())  # before it runs again
        done.set()
        await hub.drain()
    assert not connection.transport.is_closing()


async def test_a_paused_connection_reads_on_when_it_is_resumed() -> None:
    async with a_gateway() as gateway, gateway.tab() as tab:
        await tab.send("pause")
        await tab.send("later")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await tab.recv()

        gateway.echoes[0].released.set()
        assert await tab.recv() == "later"


async def test_a_peer_that_vanishes_in_silence_is_noticed() -> None:
    async with a_gateway(ping_seconds=0.1, pong_seconds=0.1) as gateway:
        tab = await gateway.tab()
        tab.transport.pause_reading()  # answers no ping
        await until(lambda: len(gateway.hub) == 0)
        tab.transport.abort()


async def test_a_peer_that_vanishes_with_much_unsent_is_noticed_no_later() -> None:
    async with (
        a_gateway(lag_seconds=0.2, close_seconds=0.2) as gateway,
        a_stalled_tab(gateway.port),
    ):
        await until(lambda: len(gateway.echoes) == 1)
        for _ in range(1000):
            gateway.echoes[0].connection.send(text_frame(b"x" * 10_000))

        await until(lambda: len(gateway.hub) == 0)


async def test_a_stalled_peer_is_bounded_and_closed_and_holds_up_no_other() -> None:
    async with (
        a_gateway(max_pending_bytes=100_000, lag_seconds=1, close_seconds=5) as gateway,
        a_stalled_tab(gateway.port) as raw,
    ):
        await until(lambda: len(gateway.echoes) == 1)
        stalled = gateway.echoes[0].connection
        async with gateway.tab() as tab:
            await until(lambda: len(gateway.echoes) == 2)
            lively = gateway.echoes[1].connection
            sent, has_room = 0, True
            while has_room:
                sent += 1
                assert sent < 5000, "it is never full"
                frame = text_frame(f"{sent}:".ljust(10_000).encode())
                if stalled.is_stalled:
                    has_room = stalled.offer(frame)
                else:
                    stalled.send(frame)
                lively.send(frame)
                assert gateway.hub.shared.stalled_bytes <= 100_000
                assert str(await tab.recv()).startswith(f"{sent}:")

            await until(lambda: stalled.closing is EndReason.TOO_SLOW)
            told = close_frame(CLOSE_CODES[EndReason.TOO_SLOW])
            assert (await read_to_the_end(raw)).endswith(told)
            await tab.send("still here")
            assert await tab.recv() == "still here"


async def test_a_reader_that_never_reads_again_is_dropped() -> None:
    async with (
        a_gateway(lag_seconds=0.3, close_seconds=0.3) as gateway,
        a_stalled_tab(gateway.port),
    ):
        await until(lambda: len(gateway.echoes) == 1)
        stalled = gateway.echoes[0].connection
        while not stalled.is_stalled:
            stalled.send(text_frame(b"x" * 10_000))
            await asyncio.sleep(0)

        await until(lambda: len(gateway.hub) == 0)
        assert gateway.closes == [CLOSE_CODES[EndReason.TOO_SLOW]]
        assert gateway.hub.shared.stalled_bytes == 0


async def test_the_socket_of_a_peer_that_ignores_the_close_does_not_linger() -> None:
    async with a_gateway(close_seconds=0.3) as gateway, a_stalled_tab(gateway.port) as raw:
        await until(lambda: len(gateway.echoes) == 1)

        gateway.echoes[0].connection.close(EndReason.SESSION_ENDED)

        told = close_frame(CLOSE_CODES[EndReason.SESSION_ENDED])
        assert (await read_to_the_end(raw)).endswith(told)


async def test_a_drain_closes_all_connections_at_a_pace_and_ends_in_time() -> None:
    loop = asyncio.get_running_loop()
    async with a_gateway(drain_seconds=20, drain_closes_per_second=10) as gateway:
        tabs = [await gateway.tab() for _ in range(10)]
        moments: list[float] = []

        async def watch(tab: ClientConnection) -> None:
            assert await ended(tab) == CLOSE_CODES[EndReason.RESTARTING]
            moments.append(loop.time())

        async with asyncio.TaskGroup() as group:
            for tab in tabs:
                group.create_task(watch(tab))
            await gateway.hub.drain()
        assert len(gateway.hub) == 0
        assert max(moments) - min(moments) > 0.3, "not all at once"


async def test_a_drain_is_not_held_up_by_a_peer_that_does_not_read() -> None:
    loop = asyncio.get_running_loop()
    async with (
        a_gateway(drain_seconds=0.5) as gateway,
        a_stalled_tab(gateway.port),
    ):
        await until(lambda: len(gateway.echoes) == 1)
        for _ in range(1000):
            gateway.echoes[0].connection.send(text_frame(b"x" * 10_000))

        started = loop.time()
        await gateway.hub.drain()

        assert loop.time() - started < 10
        await until(lambda: len(gateway.hub) == 0)


async def test_a_connection_that_opens_during_a_drain_is_closed_though_no_other_ends() -> None:
    hub = Hub(some_limits(drain_seconds=0.5))
    hub.shared.work.begin()
    async with asyncio.TaskGroup() as group:
        group.create_task(hub.drain())
        for _ in range(5):
            await asyncio.sleep(0)  # until it waits
        connection = a_connection(hub, ATransport())
        connection.open(AReceiver())
        for _ in range(5):
            await asyncio.sleep(0)
        told = connection.closing
    assert told is EndReason.RESTARTING


async def test_a_drain_waits_for_what_is_under_way_without_a_task() -> None:
    async with a_gateway() as gateway, gateway.tab() as tab:
        await tab.send("here")
        await tab.recv()
        gateway.hub.shared.work.begin()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(gateway.hub.drain())
            assert await ended(tab) == CLOSE_CODES[EndReason.RESTARTING]
            await until(lambda: len(gateway.hub) == 0)
            await asyncio.sleep(0)
            waited = not drained.done()
            gateway.hub.shared.work.end()
    assert waited


async def test_a_drain_is_not_held_up_by_work_that_does_not_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    async with a_gateway(drain_seconds=0.3) as gateway:
        async with gateway.tab() as tab:
            await tab.send("work for ever")
            await tab.send("echo")
            await tab.recv()
        await until(lambda: len(gateway.hub) == 0)
        started = loop.time()
    assert 0.2 < loop.time() - started < 10.0, "what it asked for had its time, and no more"
    assert not [record for record in caplog.records if record.exc_info]
