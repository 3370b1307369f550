"""Rows that can't leave now: others don't wait for them, and somebody is told why."""

import asyncio
import logging
import math
import secrets
from contextlib import AbstractAsyncContextManager

import pytest

from clients.python.tests.outbox.builders import (
    SpiedPublisher,
    a_counter,
    count,
    until,
    until_sent,
    until_stored,
)
from hubbub_client.errors import Unavailable
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox import append_message
from hubbub_client.outbox.bus import to_bus
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.gateway import to_gateway
from hubbub_client.outbox.held_up import HeldUp
from hubbub_client.outbox.limits import RelayLimits
from hubbub_client.outbox.relay import run_relay
from hubbub_client.sql.database import Sessions, transaction
from shared.runtime.process import running
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import RunningGateway

LIMITS = RelayLimits(batch_rows=2, idle_seconds=0.02, publish_seconds=0.2)
MAY_NOT_PUBLISH = """authorization { users: [
    { user: application, password: secret,
      permissions: { publish: { deny: "events.posts.*" } } } ] }
"""


def relaying(sessions: Sessions, to: Destination) -> AbstractAsyncContextManager[None]:
    return running(lambda: run_relay(sessions, to, asyncio.Event(), limits=LIMITS))


async def add(sessions: Sessions, *aggregates: str, subject: str) -> None:
    async with transaction(sessions) as session:
        for aggregate in aggregates:
            append_message(
                session,
                subject=subject,
                aggregate=aggregate,
                message_id=secrets.token_hex(8),
                payload=b'{"data": 1}',
            )


@pytest.mark.parametrize(
    "stuck", [["one"] * 5, [f"many:{number}" for number in range(5)]], ids=["rows", "aggregates"]
)
async def test_more_stuck_rows_than_a_batch_has_stop_nobody_else(
    stuck: list[str], sessions: Sessions, bus: Bus, publisher: Publisher
) -> None:
    await add(sessions, *stuck, subject="nowhere.a")  # no stream takes it: 503
    name = await a_counter(sessions)
    await count(sessions, name, times=3)

    async with relaying(sessions, publisher):
        await until_stored(bus, name, [1, 2, 3])
        await until_sent(sessions, name)
        await count(sessions, name)
        await until_stored(bus, name, [1, 2, 3, 4])


class OnceAwayPublisher(SpiedPublisher):
    """The real one, which gets no answer the first time."""

    async def publish(self, subject: str, *arguments: object, **options: object) -> PubAck:
        if not self.has_given_up.is_set():
            self.has_given_up.set()
            raise BusUnavailable("no answer")
        return await super().publish(subject, *arguments, **options)


async def test_what_was_held_up_goes_on_in_its_order(
    sessions: Sessions, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    name = await a_counter(sessions)
    await count(sessions, name, times=4)
    caplog.set_level(logging.INFO)

    async with relaying(sessions, OnceAwayPublisher(bus)):
        await until_stored(bus, name, [1, 2, 3, 4])
        await until(lambda: said(caplog, "outbox_goes_on"))


async def said(caplog: pytest.LogCaptureFixture, name: str, reason: str = "") -> bool:
    return any(reason in str(each.fields.get("reason")) for each in events(caplog, name))


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[LogEvent]:
    logged = [record.msg for record in caplog.records]
    return [each for each in logged if isinstance(each, LogEvent) and each.name == name]


async def test_what_the_bus_does_not_allow_is_named_once_for_all(
    sessions: Sessions, nats_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = nats_server(MAY_NOT_PUBLISH)
    await add(sessions, "a", "b", "c", subject="events.posts.a")

    async with (
        to_bus(server.url.replace("//", "//application:secret@")) as destination,
        relaying(sessions, destination),
    ):
        await until(lambda: said(caplog, "outbox_held_up", 'publish to "events.posts.a"'))

    reasons = [each.fields["reason"] for each in events(caplog, "outbox_held_up")]
    assert len(reasons) == len(set(reasons))


async def test_a_gateway_that_is_away_is_named() -> None:
    async with to_gateway("http://127.0.0.1:9", "key") as destination:
        with pytest.raises(Unavailable, match="ConnectError"):
            await destination.publish(
                "rt.pub.chat:a",
                b'{"data": 1}',
                message_id="m",
                deadline_seconds=RelayLimits().publish_seconds,
            )


async def test_a_wrong_key_is_named(
    sessions: Sessions, url: str, gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    await add(sessions, "a", subject="rt.pub.chat:a")

    async with to_gateway(url, "another key") as destination, relaying(sessions, destination):
        await until(lambda: said(caplog, "outbox_held_up", "unauthorized"))

    assert events(caplog, "outbox_held_up")[-1].fields["aggregate"] == "a"


def test_the_pause_grows_and_further_where_others_go_on() -> None:
    limits = RelayLimits(first_backoff_seconds=60, max_backoff_seconds=120, max_pause_seconds=480)
    held_up = HeldUp(limits)

    def pause(*, others_go_on: bool) -> float:
        held_up.hold("a", "why", others_go_on=others_go_on)
        return round(held_up.seconds_until_due)

    assert [pause(others_go_on=False) for _ in range(3)] == [60, 120, 120]
    assert [pause(others_go_on=True) for _ in range(3)] == [240, 480, 480]
    assert pause(others_go_on=False) == 480

    held_up.release(["a"])
    assert held_up.seconds_until_due == math.inf


def test_who_waited_longest_is_due_first_and_no_more_than_a_batch_has() -> None:
    held_up = HeldUp(RelayLimits(batch_rows=2, first_backoff_seconds=0, held_up_aggregates=3))

    known = [held_up.hold(name, name, others_go_on=True) for name in ("b", "a", "c", "b", "d")]

    assert known == [True, True, True, False, True]
    assert held_up.aggregates == {"a", "b", "c"}  # bounded
    assert held_up.due() == ["a", "c"]
