"""The streams on a server of the test's own."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, BusUnavailable, StreamMissing, connect_bus
from shared.jetstream.stream_configs import STREAMS, StreamSettings
from shared.jetstream.streams import BootstrapFailed, bootstrap, check_streams
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import js_api

SECOND = 1_000_000_000


async def config_of(bus: Bus, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await js_api(bus, f"STREAM.INFO.{stream}"))["config"]
    return config


async def epochs(bus: Bus) -> list[str]:
    return [
        (await StreamReader(bus, stream).state()).epoch
        for stream in ("RT", "PRES", "CTL", "EVENTS")
    ]


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


async def test_every_stream_has_room_of_its_own_and_what_must_not_be_lost_is_refused(
    bus: Bus,
) -> None:
    configs = [await config_of(bus, stream) for stream in ("RT", "PRES", "CTL", "EVENTS")]

    assert min(config["max_bytes"] for config in configs) > 0
    assert [config["discard"] for config in configs] == ["old", "old", "new", "new"]


ROOM_FOR_SOME = "jetstream { max_file_store: 1500MB }"
MEBIBYTE = 1024 * 1024


async def test_streams_share_the_room_that_there_is_and_may_be_bootstrapped_again(
    nats_server: StartServer,
) -> None:
    server = nats_server(ROOM_FOR_SOME)
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        first = await reservations(bus)
        server.stop()
        server.start()
        await bootstrap(bus, StreamSettings(rt_max_age_seconds=3600))

        assert await reservations(bus) == first
        assert 1000 * MEBIBYTE < sum(first.values()) <= 1500 * MEBIBYTE
        assert min(first.values()) >= 16 * MEBIBYTE
        assert (await config_of(bus, "RT"))["max_age"] == 3600 * SECOND


async def test_streams_that_reserved_nothing_reserve_it_from_the_next_bootstrap_on(
    nats_server: StartServer,
) -> None:
    server = nats_server(ROOM_FOR_SOME)
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bus.until_connected()
        for stream, subject in (("CTL", "ctl.pub.>"), ("EVENTS", "events.>")):
            request = {"name": stream, "subjects": [subject], "storage": "file"}
            await js_api(bus, f"STREAM.CREATE.{stream}", request)
        await publisher.publish("events.a", bytes(20_000), message_id="a")
        await bootstrap(bus)

        assert min((await reservations(bus)).values()) > 0
        assert (await StreamReader(bus, "EVENTS").state()).last == 1


async def test_who_knows_of_less_room_makes_them_smaller(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus, StreamSettings(store_bytes=1000 * MEBIBYTE))
        first = await reservations(bus)
        assert 900 * MEBIBYTE < sum(first.values()) <= 1000 * MEBIBYTE

        await bootstrap(bus, StreamSettings(store_bytes=10 * MEBIBYTE))
        assert await reservations(bus) == first


async def test_too_little_room_is_a_sentence(nats_server: StartServer) -> None:
    server = nats_server("jetstream { max_file_store: 40MB }")
    async with connect_bus(server.url, name="test") as bus:
        with pytest.raises(
            BootstrapFailed, match="too little room: its streams need at least 64 MiB"
        ):
            await bootstrap(bus)


async def test_too_little_room_that_is_known_is_a_sentence_too(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        with pytest.raises(
            BootstrapFailed, match="too little room: its streams need at least 64 MiB"
        ):
            await bootstrap(bus, StreamSettings(store_bytes=40 * MEBIBYTE))


FULL = json.dumps([0] * 60_000).encode()


async def test_whatever_else_is_full_a_revocation_is_stored(nats_server: StartServer) -> None:
    server = nats_server("jetstream { max_file_store: 100MB }")
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        for subject in ("events.posts.a", "rt.pub.chat:lobby"):
            await store_until_refused(publisher, subject, at_most=600)
        for number in range(100):
            await publisher.publish(f"pres.st.a.{number}", FULL, message_id=f"p{number}")

        await publisher.publish("ctl.pub.auth.session_revoked", b"{}", message_id="revoked")

        assert (await StreamReader(bus, "CTL").state()).last == 1
        assert (await StreamReader(bus, "EVENTS").state()).first == 1
        assert (await StreamReader(bus, "RT").state()).first > 1


@pytest.mark.parametrize(("stream", "subject"), [("EVENTS", "events.a"), ("CTL", "ctl.pub.a")])
async def test_a_full_stream_drops_nothing_and_takes_what_it_refused_when_it_has_room(
    nats_server: StartServer, stream: str, subject: str
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        small = StreamSettings(events_max_bytes=1_000_000, ctl_max_bytes=1_000_000)
        await bootstrap(bus, small)
        stored = await store_until_refused(publisher, subject, at_most=100)

        assert 0 < stored < 100
        held = await StreamReader(bus, stream).state()
        assert (held.first, held.last) == (1, stored)
        more = StreamSettings(events_max_bytes=9_000_000, ctl_max_bytes=9_000_000)
        await bootstrap(bus, more)
        again = await publisher.publish(subject, FULL, message_id=f"{subject}-{stored}")
        assert (again.offset, again.duplicate) == (stored + 1, False)


async def store_until_refused(publisher: Publisher, subject: str, *, at_most: int) -> int:
    """How many were stored. A refusal must never count as one for good."""
    for number in range(at_most):
        try:
            await publisher.publish(
                subject, FULL, message_id=f"{subject}-{number}", deadline_seconds=3
            )
        except BusUnavailable:
            return number
    return at_most


async def reservations(bus: Bus) -> dict[str, int]:
    return {
        stream: (await config_of(bus, stream))["max_bytes"]
        for stream in ("RT", "PRES", "CTL", "EVENTS")
    }


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


async def test_streams_that_are_as_they_should_be_are_looked_at_once(
    nats_server: StartServer,
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        calls: list[bytes] = []
        await bus.subscribe("$JS.API.>", lambda subject, *_message: calls.append(subject))
        await bootstrap(bus)
        await js_api(bus, "INFO")
        await eventually(lambda: b"$JS.API.INFO" in calls)  # no call before it comes later

        looks = [f"STREAM.INFO.{stream}" for stream in STREAMS]
        wanted = [f"$JS.API.{call}" for call in (*looks, "CONSUMER.INFO.EVENTS.notify", "INFO")]
        assert [call.decode() for call in calls] == wanted


async def test_what_a_stream_holds_survives_another_bootstrap(nats_server: StartServer) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        await publisher.publish("rt.pub.a", b"", message_id="a")
        await bootstrap(bus, replace(StreamSettings(), rt_max_age_seconds=3600))

        assert (await StreamReader(bus, "RT").state()).last == 1


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
