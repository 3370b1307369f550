"""The client on a real server, and the private names of nats-py that it leans on."""

import asyncio
import inspect
from importlib.metadata import version

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from hubbub_client.nats.client import connect_bus
from hubbub_client.nats.light_client import LightClient
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually


def test_the_version_whose_private_names_we_know_is_installed() -> None:
    assert version("nats-py") == "2.16.0"


def test_the_private_attributes_that_we_use_are_there() -> None:
    attributes = vars(Client())

    assert attributes["_sid"] == 0
    assert attributes["_subs"] == {}
    assert attributes["_pongs"] == []
    assert attributes["_pings_outstanding"] == 0
    assert {"_flush_queue", "_transport", "_reading_task", "_closed_cb", "_status"} <= set(
        attributes
    )
    assert "_io_writer" in vars(TcpTransport())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_process_connect_init", ["self"]),
        ("_process_pong", ["self"]),
        ("_read_loop", ["self"]),
        ("_attempt_reconnect", ["self"]),
        ("_process_op_err", ["self", "e"]),
        ("_connect_to_server", ["self", "s"]),
    ],
)
def test_the_private_methods_that_we_override_or_call_take_what_they_took(
    name: str, parameters: list[str]
) -> None:
    method = getattr(Client, name)

    assert inspect.iscoroutinefunction(method)
    assert list(inspect.signature(method).parameters) == parameters


def test_nats_py_touches_of_a_subscription_only_what_ours_has() -> None:
    """These are the attributes that its connection code reads; a new one would be missed."""
    code = inspect.getsource(Client._close) + inspect.getsource(Client._attempt_reconnect)
    client = LightClient(max_pending_bytes=1)
    subscription = client.subscribe_inline("a", lambda *_message: None)

    touched = {
        word.removeprefix("sub.").split(".")[0].rstrip(":)],")
        for word in code.replace("(", " ").replace("[", " ").split()
        if word.startswith("sub.")
    }

    assert touched
    assert [name for name in touched if not hasattr(subscription, name)] == []


async def test_a_flush_that_was_cancelled_does_not_end_the_read_loop(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    client = LightClient(max_pending_bytes=1_000_000)
    heard: list[bytes] = []
    await client.connect(server.url)
    try:
        client.subscribe_inline("flush.test", lambda _s, payload, _h, _r: heard.append(payload))
        server.pause()
        async with asyncio.TaskGroup() as group:
            flush = group.create_task(client.flush())
            await eventually(lambda: bool(client._pongs))
            flush.cancel()
        server.go_on()  # now the pong comes that nobody waits for

        client.send_command(b"PUB flush.test 2\r\nhi\r\n")
        await eventually(lambda: heard == [b"hi"])
        assert client.is_connected
        assert client.stats["reconnects"] == 0
    finally:
        await client.close()


async def test_a_read_loop_that_ends_by_surprise_makes_a_new_connection(nats_url: str) -> None:
    reconnected = asyncio.Event()

    async def on_reconnect() -> None:
        reconnected.set()

    client = LightClient(max_pending_bytes=1_000_000)
    await client.connect(nats_url, reconnected_cb=on_reconnect, reconnect_time_wait=0)
    try:
        client._pongs.append("no future at all")  # type: ignore[arg-type]
        client.send_command(b"PING\r\n")  # its pong meets the above, and nats-py's loop ends

        async with asyncio.timeout(20):
            await reconnected.wait()
    finally:
        await client.close()


async def test_a_handler_that_raises_does_not_end_the_read_loop(nats_url: str) -> None:
    heard: list[bytes] = []

    def handle(_subject: bytes, payload: bytes, _headers: bytes | None, _reply: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("cannot read that")
        heard.append(payload)

    async with connect_bus(nats_url, name="test") as bus:
        await bus.until_connected()
        await bus.subscribe("raise.test", handle)
        bus.send("raise.test", b"bad")
        bus.send("raise.test", b"good")
        await eventually(lambda: heard == [b"good"])


async def test_what_was_sent_right_before_the_end_still_leaves(nats_url: str) -> None:
    heard: list[bytes] = []

    async with connect_bus(nats_url, name="test") as bus:
        await bus.subscribe("last.words", lambda _s, payload, _h, _r: heard.append(payload))
        await bus.until_connected()
        client = LightClient(max_pending_bytes=1_000_000)
        await client.connect(nats_url)
        client.send_command(b"PUB last.words 4\r\nlast\r\n")
        await client.close()
        await eventually(lambda: heard == [b"last"])


async def test_a_handler_gets_plain_bytes(nats_url: str) -> None:
    heard: list[tuple[object, ...]] = []

    async with connect_bus(nats_url, name="test") as bus:
        await bus.until_connected()
        await bus.subscribe("plain.test", lambda *message: heard.append(message))
        bus.send("plain.test", b"1", headers=b"NATS/1.0\r\nA: b\r\n\r\n", reply="back")
        bus.send("plain.test", b"2")
        await eventually(lambda: len(heard) == 2)

    assert heard == [
        (b"plain.test", b"1", b"NATS/1.0\r\nA: b\r\n\r\n", b"back"),
        (b"plain.test", b"2", None, b""),
    ]
    assert {type(part) for message in heard for part in message} == {bytes, type(None)}


async def test_a_subscription_survives_reconnects_until_it_is_closed(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    heard: list[bytes] = []
    ups: list[int] = []

    async with connect_bus(server.url, name="test") as bus:
        bus.on_connected(lambda: ups.append(1))
        subscription = await bus.subscribe("a.*", lambda _s, payload, _h, _r: heard.append(payload))
        await bus.until_connected()
        server.kill()
        await eventually(lambda: not bus.connected)
        server.start()
        await eventually(lambda: len(ups) == 2)
        bus.send("a.b", b"1")
        await eventually(lambda: heard == [b"1"])

        subscription.close()
        subscription.close()
        bus.send("a.b", b"2")
        await bus.request("$JS.API.INFO", b"", timeout_seconds=20)

    assert heard == [b"1"]
