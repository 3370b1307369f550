"""Gateways, servers and streams that die, hang or are made anew: presence is right in the end."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import replace

from gateway.presence.records import EXPECTED_SEQUENCE
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    CLEO,
    DAN,
    EXPIRING,
    GONE_SECONDS,
    LOBBY,
    PATIENT_SECONDS,
    QUICK,
    a_gateway,
    assert_alternating,
    never,
    until_entries_in_the_stream,
)


class Stuck(Publisher):
    """A publisher whose renewals of leases fail, or whose acks are lost."""

    stuck = False
    loses_ack = False
    loses_ack_of_end = False
    broken = False
    renewals = 0
    """Of which the ack came."""

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PubAck:
        is_renewal = (headers or {}).get(EXPECTED_SEQUENCE, "0") != "0"
        if self.broken and is_renewal:
            self.broken = False
            raise RuntimeError("a publisher that breaks")
        if self.stuck and is_renewal and payload:
            raise BusUnavailable("stuck")
        stored = await super().publish(
            subject,
            payload,
            message_id=message_id,
            deadline_seconds=deadline_seconds,
            ttl=ttl,
            headers=headers or {},
        )
        if self.loses_ack and is_renewal:
            self.loses_ack = False
            raise BusUnavailable("stored, and only the answer is lost")
        if self.loses_ack_of_end and is_renewal and not payload:
            self.loses_ack_of_end = False
            raise BusUnavailable("stored, and only the answer is lost")
        self.renewals += is_renewal
        return stored


async def test_the_users_of_a_killed_gateway_leave_once_and_in_time(server: NatsServer) -> None:
    async with a_gateway(server.url) as survivor, a_gateway(server.url) as other:
        async with a_gateway(server.url, EXPIRING) as victim:
            for user_id in (ANN, BOB):
                victim.enter(user_id)
            survivor.enter(BOB)
            await eventually(lambda: survivor.users == other.users == {ANN, BOB})
            await eventually(lambda: len(other.presence.entries(LOBBY, BOB)) == 2)
        await eventually(lambda: survivor.users == other.users == {BOB}, seconds=GONE_SECONDS)

        await until_entries_in_the_stream(survivor, 1)  # the victim's were purged
        await never(lambda: len(survivor.changes) > 3, seconds=0.3)

    assert survivor.told == other.told
    assert survivor.told[-1] == (ANN, "left", 1)
    assert survivor.told_of_tabs == other.told_of_tabs
    assert survivor.told_of_tabs[-1] == ("tab", "left")


async def test_who_never_hears_that_a_lease_has_ended_removes_the_entries_all_the_same(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url, make_publisher=Stuck) as survivor:
        assert isinstance(survivor.publisher, Stuck)
        async with a_gateway(server.url, EXPIRING) as victim:
            victim.enter(ANN)
            await eventually(lambda: survivor.users == {ANN})
            survivor.publisher.loses_ack_of_end = True
        await eventually(lambda: survivor.users == set(), seconds=GONE_SECONDS)

        await until_entries_in_the_stream(survivor, 0)


async def test_a_node_that_loses_its_lease_takes_another_name_and_its_users_are_not_seen_to_leave(
    server: NatsServer,
) -> None:
    limits = replace(EXPIRING, hold_seconds=PATIENT_SECONDS)
    async with (
        a_gateway(server.url, replace(limits, lease_seconds=600)) as witness,
        a_gateway(server.url, limits, make_publisher=Stuck) as gateway,
    ):
        assert isinstance(gateway.publisher, Stuck)
        gateway.enter(ANN)
        await eventually(lambda: witness.users == {ANN})
        first_name = gateway.presence.node
        gateway.publisher.stuck = True
        await eventually(lambda: gateway.presence.node not in (None, first_name))
        gateway.publisher.stuck = False
        await never(lambda: gateway.presence.connections_elsewhere(ANN) > 0, seconds=0.2)
        # Until the old lease is ended and its entries are purged, and a while longer.
        await eventually(lambda: first_name not in witness.presence.entries(LOBBY, ANN))
        [entry] = await until_entries_in_the_stream(witness, 1)
        await never(lambda: len(witness.changes) > 1, seconds=0.3)

        await eventually(lambda: [*witness.presence.entries(LOBBY, ANN)] == [gateway.presence.node])
        assert not entry.subject.endswith(f".{first_name}")
    assert witness.told[0:1] == gateway.told[0:1] == [(ANN, "joined", 1)]
    assert len(gateway.told) == 1
    assert witness.told_of_tabs == gateway.told_of_tabs == [("tab", "joined")]


async def test_after_the_loop_of_the_lease_fails_a_new_lease_is_taken_and_the_entries_written(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url, make_publisher=Stuck) as gateway:
        assert isinstance(gateway.publisher, Stuck)
        gateway.enter(ANN)
        await eventually(lambda: gateway.users == {ANN})
        first_name = gateway.presence.node
        gateway.publisher.broken = True
        await eventually(lambda: gateway.presence.node not in (None, first_name))
        second_name = gateway.presence.node
        await eventually(lambda: second_name in gateway.presence.entries(LOBBY, ANN))

    assert gateway.told == [(ANN, "joined", 1)]


async def test_a_node_whose_renewal_is_stored_without_an_ack_keeps_its_name(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url, make_publisher=Stuck) as gateway:
        publisher, name = gateway.publisher, gateway.presence.node
        assert isinstance(publisher, Stuck)
        publisher.loses_ack = True
        await eventually(lambda: not publisher.loses_ack)
        before = publisher.renewals
        await eventually(lambda: publisher.renewals > before)
        assert gateway.presence.node == name


async def test_a_hung_server_that_expires_all_leases_makes_no_user_leave(
    server: NatsServer,
) -> None:
    limits = replace(EXPIRING, hold_seconds=PATIENT_SECONDS)
    async with (
        a_gateway(server.url, limits, make_publisher=Stuck) as one,
        a_gateway(server.url, limits, make_publisher=Stuck) as two,
    ):
        one.enter(ANN)
        two.enter(BOB)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        names = one.presence.node, two.presence.node
        for gateway in (one, two):
            # A server that goes on may read what was sent meanwhile before it expires anything.
            assert isinstance(gateway.publisher, Stuck)
            gateway.publisher.stuck = True
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(limits.lease_seconds + 0.5)
        server.signal(signal.SIGCONT)
        for gateway, name in zip((one, two), names, strict=True):
            await eventually(lambda g=gateway, n=name: g.presence.node not in (None, n))  # type: ignore[misc]
            assert isinstance(gateway.publisher, Stuck)
            gateway.publisher.stuck = False
        await eventually(lambda: [*one.presence.entries(LOBBY, BOB)] == [two.presence.node])
        await eventually(lambda: [*two.presence.entries(LOBBY, ANN)] == [one.presence.node])

    assert sorted(one.told) == sorted(two.told)
    assert len(one.told) == 2
    assert one.told_of_tabs == two.told_of_tabs == [("tab", "joined")] * 2


async def test_after_a_server_is_killed_and_started_again_all_gateways_are_right(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as one, a_gateway(server.url) as two:
        one.enter(ANN)
        two.enter(BOB)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        for round_number in range(3):
            one.leave(ANN)  # the grace ends while the server is away, or comes back
            two.enter(CLEO, f"tab {round_number}")
            server.kill()
            two.leave(BOB)
            one.enter(ANN, f"again {round_number}")
            for gateway in (one, two):
                await eventually(lambda g=gateway: not g.presence.caught_up)  # type: ignore[misc]
            await eventually(lambda: one.presence.unwritten > 0 < two.presence.unwritten)
            server.start()
            two.enter(BOB, "tab")
            one.leave(ANN, f"again {round_number}")
            two.leave(CLEO, f"tab {round_number}")
            one.enter(ANN)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        await eventually(lambda: one.presence.unwritten == two.presence.unwritten == 0)
        one.enter(DAN)  # whoever sees this has read all that was written before
        everybody = {ANN, BOB, DAN}
        await eventually(lambda: one.users == two.users == everybody)
        await never(lambda: not one.users == two.users == everybody, seconds=0.5)

    for gateway in (one, two):
        assert_alternating(gateway)


async def test_users_of_an_expired_lease_leave_though_its_marker_expired_before_it_was_ended(
    server: NatsServer,
) -> None:
    limits = replace(EXPIRING, hold_seconds=2)  # longer than the marker of the expiry
    stays = replace(limits, lease_seconds=600)
    async with a_gateway(server.url, stays, marker_seconds=1) as survivor:
        async with a_gateway(server.url, limits, marker_seconds=1) as victim:
            victim.enter(ANN)
            await eventually(lambda: survivor.users == {ANN})
        await eventually(lambda: survivor.users == set(), seconds=GONE_SECONDS)


async def test_after_a_stream_is_made_anew_its_entries_are_written_anew_and_no_user_leaves(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, hold_seconds=PATIENT_SECONDS)
    async with a_gateway(server.url, limits) as one, a_gateway(server.url, limits) as two:
        one.enter(ANN)
        two.enter(BOB)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        await one.bus.request("$JS.API.STREAM.DELETE.PRES", b"", timeout_seconds=20)
        await eventually(lambda: not one.presence.caught_up and not two.presence.caught_up)
        await bootstrap(one.bus)
        await eventually(lambda: one.presence.caught_up and two.presence.caught_up)
        await never(lambda: not one.users == two.users == {ANN, BOB}, seconds=0.5)

    assert sorted(one.told) == sorted(two.told)
    assert len(one.told) == 2
    assert one.told_of_tabs == two.told_of_tabs == [("tab", "joined")] * 2


async def test_users_who_entered_while_the_bus_was_away_are_reported_when_it_is_back(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as gateway:
        server.kill()
        for user_id in (ANN, BOB):
            gateway.enter(user_id)
        gateway.leave(BOB)  # never written, so there is nothing to remove
        await never(lambda: bool(gateway.changes), seconds=QUICK.write_seconds + 0.2)
        server.start()
        await eventually(lambda: gateway.users == {ANN})
