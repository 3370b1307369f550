"""The streams on a server of the test's own."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.bus.client import Bus, BusUnavailable, StreamMissing, connect_bus
from shared.bus.direct_get import stream_state
from shared.bus.publisher import start_publisher
from shared.bus.streams import BootstrapFailed, StreamSettings, bootstrap, check_streams
from tests.fixtures.nats import StartServer
from tests.shared.bus.builders import js_api

SECOND = 1_000_000_000


async def config_of(bus: Bus, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await js_api(bus, f"STREAM.INFO.{stream}"))["config"]
    return config


async def epochs(bus: Bus) -> list[str]:
    return [(await stream_state(bus, stream)).epoch for stream in ("RT", "PRES", "CTL", "EVENTS")]


async def test_bootstrap_makes_every_stream_as_it_is_meant(bus: Bus) -> None:
    rt, pres = await config_of(bus, "RT"), await config_of(bus, "PRES")
    ctl, events = await config_of(bus, "CTL"), await config_of(bus, "EVENTS")
    notify = (await js_api(bus, "CONSUMER.INFO.EVENTS.notify"))["config"]

    await check_streams(bus)
    assert {stream["storage"] for stream in (rt, pres, ctl, events)} == {"file"}
    assert rt["republish"] == {"src": "rt.pub.>", "dest": "rt.live.>"}
    assert rt["max_msgs_per_subject"] == -1
    assert (rt["max_age"], rt["duplicate_window"]) == (24 * 3600 * SECOND, 300 * SECOND)
    assert rt["max_bytes"] > 0
    assert rt["deny_delete"]
    assert rt["allow_direct"]
    assert (rt["discard"], rt["retention"]) == ("old", "limits")
    assert pres["republish"] == {"src": "pres.st.>", "dest": "pres.live.>"}
    assert pres["max_msgs_per_subject"] == 1
    assert pres["allow_msg_ttl"]
    assert pres["allow_rollup_hdrs"]
    assert pres["subject_delete_marker_ttl"] == 60 * SECOND
    assert ctl["republish"] == {"src": "ctl.pub.>", "dest": "ctl.live.>"}
    assert ctl["max_age"] == 24 * 3600 * SECOND
    assert events["subjects"] == ["events.>"]
    assert (events["max_age"], events["duplicate_window"]) == (7 * 86400 * SECOND, 600 * SECOND)
    assert (notify["durable_name"], notify["ack_policy"]) == ("notify", "explicit")
    assert len(set(await epochs(bus))) == 4


async def test_two_that_bootstrap_at_once_agree_and_later_ones_change_no_epoch(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with (
        connect_bus(server.url, name="one") as one,
        connect_bus(server.url, name="two") as two,
    ):
        async with asyncio.TaskGroup() as group:
            for bus in (one, two, one, two):
                group.create_task(bootstrap(bus))
        first = await epochs(one)
        await bootstrap(two)
        await bootstrap(two, StreamSettings(rt_max_bytes=10_000_000))

        assert all(first)
        assert await epochs(two) == first
        assert (await config_of(two, "RT"))["max_bytes"] == 10_000_000


async def test_what_a_stream_holds_survives_another_bootstrap(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        await publisher.publish("rt.pub.a", b"", message_id="a")
        await bootstrap(bus, replace(StreamSettings(), rt_max_age_seconds=3600))

        assert (await stream_state(bus, "RT")).last == 1


async def test_streams_that_others_made_are_adopted_with_one_epoch(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="one") as one:
        await one.until_connected()
        await js_api(one, "STREAM.CREATE.RT", {"name": "RT", "subjects": ["rt.pub.>"]})
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(bootstrap(one))
        adopted = await epochs(one)
        await bootstrap(one)

        assert all(adopted)
        assert await epochs(one) == adopted
        assert (await config_of(one, "RT"))["allow_direct"]


async def test_a_missing_stream_is_noticed(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        await js_api(bus, "STREAM.DELETE.PRES")

        with pytest.raises(StreamMissing, match="PRES"):
            await check_streams(bus)


async def test_what_the_server_refuses_for_good_is_said(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bus.until_connected()
        await js_api(bus, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["rt.pub.>"]})

        with pytest.raises(BootstrapFailed, match="RT"):
            await bootstrap(bus)


async def test_without_a_server_bootstrap_gives_up_at_its_deadline() -> None:
    async with connect_bus("nats://127.0.0.1:1", name="test") as bus:
        with pytest.raises(BusUnavailable):
            await bootstrap(bus, StreamSettings(deadline_seconds=0.2))


async def test_bootstrap_waits_for_a_server_that_comes_late(nats_server: StartServer) -> None:
    server = nats_server()
    server.stop()
    async with connect_bus(server.url, name="test") as bus, asyncio.TaskGroup() as group:
        making = group.create_task(bootstrap(bus))
        await asyncio.sleep(0)
        server.start()
        await making
        await check_streams(bus)
