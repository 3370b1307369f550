"""Gateways that were away, or missed something: they know the truth again, and no ghost stays."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.presence.records import EntryKey, entry_subject, lease_subject
from shared.contracts.ids import NodeId, UserId
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.stream_reader import StreamReader
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    GONE_SECONDS,
    LOBBY,
    QUICK,
    Gateway,
    a_gateway,
    a_link,
    assert_alternating,
)


async def until_without_a_trace(gateway: Gateway, user_id: UserId) -> None:
    assert gateway.presence.node is not None
    subject = entry_subject(EntryKey((LOBBY, user_id), gateway.presence.node))
    async with asyncio.timeout(10):
        while await StreamReader(gateway.bus, "PRES").last_of(subject) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_expired(gateway: Gateway, node: NodeId) -> None:
    reader = StreamReader(gateway.bus, "PRES")
    async with asyncio.timeout(10):
        lease = await reader.last_of(lease_subject(node))
        while lease is not None and lease.payload:
            await asyncio.sleep(0.05)
            lease = await reader.last_of(lease_subject(node))


async def republish(gateway: Gateway, *, on: bool) -> None:
    """Let the stream send live copies, or lose them all."""
    answer = await gateway.bus.request("$JS.API.STREAM.INFO.PRES", b"", timeout_seconds=2)
    config = json.loads(answer)["config"]
    config["republish"] = {"src": "pres.st.>", "dest": "pres.live.>"} if on else None
    answer = await gateway.bus.request(
        "$JS.API.STREAM.UPDATE.PRES", json.dumps(config).encode(), timeout_seconds=2
    )
    assert "error" not in json.loads(answer), answer


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


async def test_of_many_who_come_to_light_at_once_each_is_told_when_all_have_been_announced(
    server: NatsServer,
) -> None:
    """Who is told begins to listen, and would hear of the others whom the table has already."""
    announced: list[int] = []
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url) as away,
    ):
        link.cut()
        await eventually(lambda: not away.presence.caught_up)
        for user_id in (ANN, BOB):
            here.enter(user_id)
            away.presence.when_present(
                LOBBY, user_id, 20, lambda _is_there: announced.append(len(away.told))
            )
        await eventually(lambda: here.users == {ANN, BOB})
        link.mend()
        await eventually(lambda: len(announced) == 2)
    assert announced == [2, 2]


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
