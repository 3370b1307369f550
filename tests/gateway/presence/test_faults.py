"""What dies, hangs, is cut off or begins anew: in the end all know the truth, and few flicker."""

import asyncio
import json
import signal
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.presence.leases import EXPECTED_SEQUENCE
from gateway.presence.subjects import EntryKey, entry_subject, lease_subject
from shared.bus.direct_get import DirectGet
from shared.bus.errors import BusUnavailable
from shared.bus.limits import FollowerLimits
from shared.bus.publisher import Publisher, Stored
from shared.bus.streams import bootstrap
from shared.ids import NodeId, UserId
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    CLEO,
    GONE_SECONDS,
    LOBBY,
    QUICK,
    Gateway,
    a_gateway,
    a_link,
    entries_in_the_stream,
    never,
)


class Stuck(Publisher):
    """A publisher that can't renew leases for a while."""

    stuck = False

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Stored:
        is_renewal = (headers or {}).get(EXPECTED_SEQUENCE, "0") != "0"
        if self.stuck and is_renewal and payload:
            raise BusUnavailable("stuck")
        return await super().publish(
            subject,
            payload,
            message_id=message_id,
            deadline_seconds=deadline_seconds,
            ttl=ttl,
            headers=headers or {},
        )


async def test_the_users_of_a_killed_gateway_leave_once_and_in_time(server: NatsServer) -> None:
    async with a_gateway(server.url) as survivor, a_gateway(server.url) as other:
        async with a_gateway(server.url) as victim:
            for user_id in (ANN, BOB):
                victim.enter(user_id)
            survivor.enter(BOB)
            await eventually(lambda: survivor.users == other.users == {ANN, BOB})
            await eventually(lambda: len(other.presence.entries(LOBBY, BOB)) == 2)
        await eventually(lambda: survivor.users == other.users == {BOB}, seconds=GONE_SECONDS)

        await never(lambda: len(survivor.changes) > 3, seconds=0.3)
        left = await entries_in_the_stream(survivor)

    assert survivor.told == other.told
    assert survivor.told[-1] == (ANN, "left", 1)
    assert len(left) == 1, "the victim's entries were purged"


async def test_a_node_that_loses_its_lease_comes_back_under_another_name_unseen(
    server: NatsServer,
) -> None:
    async with (
        a_gateway(server.url) as witness,
        a_gateway(server.url, make_publisher=Stuck) as gateway,
    ):
        assert isinstance(gateway.publisher, Stuck)
        gateway.enter(ANN)
        await eventually(lambda: witness.users == {ANN})
        first_name = gateway.presence.node
        gateway.publisher.stuck = True
        await eventually(lambda: gateway.presence.node not in (None, first_name))
        gateway.publisher.stuck = False
        # Until the old name's entries are ended and gone, and a while longer.
        await eventually(lambda: first_name not in witness.presence.entries(LOBBY, ANN))
        await never(lambda: len(witness.changes) > 1, seconds=0.3)
        entries = await entries_in_the_stream(witness)

        assert [*witness.presence.entries(LOBBY, ANN)] == [gateway.presence.node]
        assert [message.subject.rpartition(".")[2] for message in entries] == [
            gateway.presence.node
        ]
    assert witness.told[0:1] == gateway.told[0:1] == [(ANN, "joined", 1)]
    assert len(gateway.told) == 1


async def test_a_hung_server_that_expires_all_leases_makes_nobody_flicker(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as one, a_gateway(server.url) as two:
        one.enter(ANN)
        two.enter(BOB)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        names = one.presence.node, two.presence.node
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(QUICK.lease_seconds + 0.5)
        server.signal(signal.SIGCONT)
        await eventually(lambda: one.presence.node not in (None, names[0]))
        await eventually(lambda: two.presence.node not in (None, names[1]))
        await eventually(lambda: [*one.presence.entries(LOBBY, BOB)] == [two.presence.node])
        await eventually(lambda: [*two.presence.entries(LOBBY, ANN)] == [one.presence.node])

    assert sorted(one.told) == sorted(two.told)
    assert len(one.told) == 2


async def test_a_killed_server_makes_nobody_lie_for_long(server: NatsServer) -> None:
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
            await asyncio.sleep(0.3)
            server.start()
            two.enter(BOB, "tab")
            one.leave(ANN, f"again {round_number}")
            two.leave(CLEO, f"tab {round_number}")
            one.enter(ANN)
        await eventually(lambda: one.presence.caught_up and two.presence.caught_up)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        await eventually(lambda: one.presence.unwritten == two.presence.unwritten == 0)
        await never(lambda: not one.users == two.users == {ANN, BOB}, seconds=0.5)

    for gateway in (one, two):
        assert_alternating(gateway)


def assert_alternating(gateway: Gateway) -> None:
    there: set[int] = set()
    for user_id, what, count in gateway.told:
        assert (user_id in there) is (what == "left")
        there ^= {user_id}
        assert count == len(there)


@pytest.mark.parametrize("somebody_stays", [True, False])
async def test_who_left_without_a_trace_while_a_gateway_was_away_is_no_ghost(
    server: NatsServer, *, somebody_stays: bool
) -> None:
    others: set[UserId] = (
        {BOB} if somebody_stays else set()
    )  # else the stream even begins later than before
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url) as away,
    ):
        for user_id in {ANN} | others:
            here.enter(user_id)
        await eventually(lambda: away.users == {ANN} | others)
        link.cut()
        await eventually(lambda: not away.presence.caught_up)
        here.leave(ANN)
        await eventually(lambda: here.users == others)
        await until_without_a_trace(here, ANN)
        link.mend()
        await eventually(lambda: away.presence.caught_up)
        assert away.users == others
    assert away.told[-1] == (ANN, "left", len(others))
    assert_alternating(away)


async def until_without_a_trace(gateway: Gateway, user_id: UserId) -> None:
    assert gateway.presence.node is not None
    subject = entry_subject(EntryKey(LOBBY, user_id, gateway.presence.node))
    async with asyncio.timeout(10):
        while await DirectGet(gateway.bus, "PRES").last_of(subject) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_expired(gateway: Gateway, node: NodeId) -> None:
    direct = DirectGet(gateway.bus, "PRES")
    async with asyncio.timeout(10):
        lease = await direct.last_of(lease_subject(node))
        while lease is not None and lease.payload:
            await asyncio.sleep(0.05)
            lease = await direct.last_of(lease_subject(node))


async def republish(gateway: Gateway, *, on: bool) -> None:
    """Let the stream send live copies, or lose them all."""
    answer = await gateway.bus.request("$JS.API.STREAM.INFO.PRES", b"", timeout_seconds=2)
    config = json.loads(answer)["config"]
    config["republish"] = {"src": "pres.st.>", "dest": "pres.live.>"} if on else None
    answer = await gateway.bus.request(
        "$JS.API.STREAM.UPDATE.PRES", json.dumps(config).encode(), timeout_seconds=2
    )
    assert "error" not in json.loads(answer), answer


async def test_who_left_by_a_live_copy_that_was_lost_is_no_ghost(server: NatsServer) -> None:
    # Never asks of its own accord: only the gap before the next live copy tells.
    patient = FollowerLimits(idle_seconds=60, verify_seconds=60)
    async with a_gateway(server.url, follower_limits=patient) as gateway:
        gateway.enter(BOB)
        gateway.enter(ANN)
        await eventually(lambda: gateway.users == {ANN, BOB})
        await republish(gateway, on=False)
        gateway.leave(ANN)
        await until_without_a_trace(gateway, ANN)
        assert gateway.users == {ANN, BOB}
        await republish(gateway, on=True)
        await eventually(lambda: gateway.users == {BOB})


async def test_who_moved_while_a_gateway_was_away_never_left(server: NatsServer) -> None:
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as one,
        a_gateway(server.url) as other,
        a_gateway(link.url) as away,
    ):
        one.enter(BOB)
        one.enter(ANN)
        await eventually(lambda: away.users == {ANN, BOB})
        link.cut()
        await eventually(lambda: not away.presence.caught_up)
        other.enter(ANN, "tab 1")
        await eventually(lambda: len(one.presence.entries(LOBBY, ANN)) == 2)
        one.leave(ANN)
        await eventually(lambda: len(one.presence.entries(LOBBY, ANN)) == 1)
        other.enter(ANN, "tab 2")  # and so the stream holds the arrival after the leave
        await eventually(lambda: other.presence.unwritten == 0)
        link.mend()
        await eventually(lambda: away.presence.caught_up)
        await eventually(lambda: len(away.presence.entries(LOBBY, ANN)) == 1)
        assert ANN in away.users
    assert len(away.told) == 2


async def test_an_expired_lease_that_nobody_ended_in_time_is_no_ghost(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, hold_seconds=2)  # longer than what says that the lease expired
    async with a_gateway(server.url, limits, marker_seconds=1) as survivor:
        async with a_gateway(server.url, limits, marker_seconds=1) as victim:
            victim.enter(ANN)
            await eventually(lambda: survivor.users == {ANN})
        await eventually(lambda: survivor.users == set(), seconds=15)


async def test_whoever_comes_back_a_moment_after_the_others_was_not_seen_to_leave(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, hold_seconds=2)
    async with (
        a_link(server.port) as link,
        a_gateway(server.url, limits) as one,
        a_gateway(link.url, limits) as late,
    ):
        late.enter(ANN)
        await eventually(lambda: one.users == {ANN})
        name = late.presence.node
        assert name is not None
        link.cut()
        await until_expired(one, name)
        link.mend()
        await eventually(lambda: name not in one.presence.entries(LOBBY, ANN))
        assert one.users == {ANN}
    assert len(one.told) == 1


async def test_a_gateway_that_was_away_for_longer_than_its_lease_announces_itself_anew(
    server: NatsServer,
) -> None:
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url) as away,
    ):
        away.enter(ANN)
        await eventually(lambda: here.users == {ANN})
        link.cut()
        await eventually(lambda: here.users == set(), seconds=GONE_SECONDS)
        link.mend()
        await eventually(lambda: here.users == away.users == {ANN})
        assert [*here.presence.entries(LOBBY, ANN)] == [away.presence.node]
    assert here.told[:3] == [(ANN, "joined", 1), (ANN, "left", 0), (ANN, "joined", 1)]


async def test_a_stream_that_is_made_anew_is_filled_anew_and_nobody_flickers(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, lease_seconds=30)  # nobody learns of it by waiting
    async with a_gateway(server.url, limits) as one, a_gateway(server.url, limits) as two:
        one.enter(ANN)
        two.enter(BOB)
        await eventually(lambda: one.users == two.users == {ANN, BOB})
        await one.bus.request("$JS.API.STREAM.DELETE.PRES", b"", timeout_seconds=2)
        await eventually(lambda: not one.presence.caught_up and not two.presence.caught_up)
        await bootstrap(one.bus)
        await eventually(lambda: one.presence.caught_up and two.presence.caught_up)
        await never(lambda: not one.users == two.users == {ANN, BOB}, seconds=0.5)

    assert sorted(one.told) == sorted(two.told)
    assert len(one.told) == 2


async def test_what_was_entered_while_the_bus_was_away_is_told_when_it_is_back(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as gateway:
        server.kill()
        for user_id in (ANN, BOB):
            gateway.enter(user_id)
        gateway.leave(BOB)  # was never written, so there is nothing to remove
        await never(lambda: bool(gateway.changes), seconds=QUICK.write_seconds + 0.2)
        server.start()
        await eventually(lambda: gateway.users == {ANN})
