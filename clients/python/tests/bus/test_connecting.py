"""Where the bus is said to be, and connections that end for good."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clients.python.tests.bus.consuming import QUICK, SECONDS, OrderPaid, a_name, consuming
from hubbub_client.bus import Events, connect
from hubbub_client.bus.connecting import BusAddress, keep_signed_in
from hubbub_client.exchange import Limits
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus, BusLost, connect_bus
from hubbub_client.outbox.bus import to_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually

USERS = """authorization {{ users: [
    {{ user: root, password: root }}
    {{ user: application, password: {} }} ] }}
"""


def an_events(name: str = "mailer") -> Events:
    events = Events(name, limits=QUICK)

    @events.on(OrderPaid)
    async def hear(event: OrderPaid) -> None: ...

    return events


@pytest.mark.parametrize("start", [connect, an_events().running, to_bus])
@pytest.mark.parametrize(
    ("url", "more", "error", "text"),
    [
        ("nats://u:secret@127.0.0.1:abc", {}, ValueError, "nats://127.0.0.1:abc"),
        ("/run/bus/nats_url", {}, ValueError, "is given as a Path"),
        (Path("/nowhere"), {}, OSError, "/nowhere"),
        ("nats://127.0.0.1:9", {"creds": Path("/nowhere")}, OSError, "/nowhere"),
        ("nats://127.0.0.1:9", {"ca": Path("/nowhere")}, ValueError, "/nowhere"),
    ],
)
async def test_a_wrong_address_is_told_before_anything_begins(
    start: Callable[..., AbstractAsyncContextManager[Any]],
    url: str | Path,
    more: dict[str, Path],
    error: type[Exception],
    text: str,
) -> None:
    has_begun = False

    with pytest.raises(error, match=text) as told:
        async with start(url, **more):
            has_begun = True

    assert not has_begun
    assert "secret" not in str(told.value)


async def test_no_consumer_and_no_client_is_called_as_a_service_of_hubbub() -> None:
    with pytest.raises(ValueError, match="own"):
        Events("posts")
    with pytest.raises(ValueError, match="own"):
        async with connect("nats://127.0.0.1:9", service="auth"):
            pass


def test_an_address_does_not_show_its_password() -> None:
    assert "secret" not in repr(BusAddress("nats://application:secret@h:4222"))


async def test_who_serves_is_told_of_a_wrong_address_in_one_line() -> None:
    with pytest.raises(SystemExit, match=r"Error: .*'/nowhere'"):
        await an_events().serve(Path("/nowhere"))


async def test_whatever_ends_a_connection_another_follows(nats_url: str, bus: Bus) -> None:
    endings: list[Exception] = [BusLost("closed"), KeyError("a bug")]
    began = 0

    async def work(_bus: Bus, _publisher: object) -> None:
        nonlocal began
        began += 1
        if endings:
            raise endings.pop()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(
            keep_signed_in(
                BusAddress(nats_url),
                work,
                begins_anew=LogEvent("begins_anew"),
                first_pause_seconds=0.01,
            )
        )
        await eventually(lambda: began == 3)
        keeping.cancel()


async def test_who_is_cancelled_ends_though_an_error_hides_it(nats_url: str, bus: Bus) -> None:
    has_begun = asyncio.Event()

    async def work(_bus: Bus, _publisher: object) -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("a bug") from None

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(
            keep_signed_in(BusAddress(nats_url), work, begins_anew=LogEvent("begins_anew"))
        )
        await has_begun.wait()
        keeping.cancel()
        await eventually(keeping.done)

    assert keeping.cancelled()


async def test_a_client_takes_another_password_when_the_servers_do(
    nats_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, file = nats_server(USERS.format("first")), tmp_path / "application_url"

    def url(user: str, password: str) -> str:
        return f"nats://{user}:{password}@127.0.0.1:{server.port}"

    file.write_text(url("application", "first"))
    async with connect_bus(url("root", "root"), name="root") as root:
        await bootstrap(root)
        async with connect(file, limits=Limits(deadline_seconds=SECONDS)) as hubbub:
            before = await hubbub.publish("chat:a", 1)
            file.write_text(url("application", "second"))
            server.reload(USERS.format("second"))
            await eventually(lambda: "bus_client_begins_anew" in caplog.text, seconds=SECONDS)
            after = await hubbub.publish("chat:a", 2)

    assert before < after


async def test_a_consumer_is_ready_anew_each_time_that_it_runs(nats_url: str, bus: Bus) -> None:
    events = an_events(a_name())
    async with consuming(events, nats_url):
        pass

    async with events.running("nats://127.0.0.1:9"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await events.until_ready()


def test_a_consumer_runs_in_one_event_loop_after_the_other() -> None:
    events = an_events()

    async def run() -> None:
        async with events.running("nats://127.0.0.1:9"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await events.until_ready()

    for _ in range(2):
        asyncio.run(run())
