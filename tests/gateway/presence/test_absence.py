"""Gateways that were disconnected or missed a message have the right users in the end."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.presence.records import EntryKey, NodeId, entry_subject, lease_subject
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.stream_reader import StreamReader
from shared.jetstream.limits import FollowerLimits
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    EXPIRING,
    GONE_SECONDS,
    LOBBY,
    Gateway,
    a_gateway,
    a_link,
    assert_alternating,
)


async def until_marker_expired(gateway: Gateway, user_id: UserId) -> None:
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
    """Turn the stream's live copies on or off."""
    answer = await gateway.bus.request("$JS.API.STREAM.INFO.PRES", b"", timeout_seconds=20)
    config = json.loads(answer)["config"]
    config["republish"] = {"src": "pres.st.>", "dest": "pres.live.>"} if on else None
    answer = await gateway.bus.request(
        "$JS.API.STREAM.UPDATE.PRES", json.dumps(config).encode(), timeout_seconds=20
    )
    assert "error" not in json.loads(answer), answer


@pytest.mark.parametrize("somebody_stays", [True, False])
async def test_a_user_who_left_while_a_gateway_was_away_is_removed_though_the_marker_has_expired(
    server: NatsServer, *, somebody_stays: bool
) -> None:
    others: set[UserId] = (
        {BOB} if somebody_stays else set()
    )  # without BOB the stream even has a new first sequence
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url, EXPIRING) as away,
    ):
        for user_id in {ANN} | others:
            here.enter(user_id)
        await eventually(lambda: away.users == {ANN} | others)
        link.cut()
        await eventually(lambda: not away.presence.caught_up)
        here.leave(ANN)
        await eventually(lambda: here.users == others)
        await until_marker_expired(here, ANN)
        link.mend()
        await eventually(lambda: away.presence.caught_up)
        assert away.users == others
    assert away.told[-1] == (ANN, "left", len(others))
    assert_alternating(away)


async def test_all_changes_of_a_snapshot_are_reported_before_the_first_waiter_is_called(
    server: NatsServer,
) -> None:
    """A waiter begins to listen when it is called, with a table that has the others already."""
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


async def test_a_user_whose_removal_got_no_live_copy_is_removed(server: NatsServer) -> None:
    # It never asks by itself: only the gap before the next live copy shows the loss.
    patient = FollowerLimits(idle_seconds=60, verify_seconds=60)
    async with a_gateway(server.url, follower_limits=patient) as gateway:
        gateway.enter(BOB)
        gateway.enter(ANN)
        await eventually(lambda: gateway.users == {ANN, BOB})
        await republish(gateway, on=False)
        gateway.leave(ANN)
        await until_marker_expired(gateway, ANN)
        assert gateway.users == {ANN, BOB}
        assert len(gateway.client_changes) == 2
        await republish(gateway, on=True)
        await eventually(lambda: gateway.users == {BOB})


async def test_a_user_who_changed_gateways_while_another_was_away_is_not_seen_to_leave_there(
    server: NatsServer,
) -> None:
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
        other.enter(ANN, "tab 2")  # so the stream has the entry after the removal
        await eventually(lambda: other.presence.unwritten == 0)
        link.mend()
        await eventually(lambda: away.presence.caught_up)
        await eventually(lambda: len(away.presence.entries(LOBBY, ANN)) == 1)
        assert ANN in away.users
    assert len(away.told) == 2
    # It has no word of the time between.
    assert away.told_of_tabs[2:] in (
        [("tab", "left"), ("tab 1", "joined"), ("tab 2", "joined")],
        [("tab", "left"), ("tab 2", "joined"), ("tab 1", "joined")],
    )


async def test_users_of_a_gateway_that_comes_back_during_the_hold_are_not_seen_to_leave(
    server: NatsServer,
) -> None:
    limits = replace(EXPIRING, hold_seconds=3)
    async with (
        a_link(server.port) as link,
        a_gateway(server.url, replace(limits, lease_seconds=600)) as one,
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


async def test_a_gateway_that_was_away_for_longer_than_its_lease_writes_its_entries_anew(
    server: NatsServer,
) -> None:
    async with (
        a_link(server.port) as link,
        a_gateway(server.url) as here,
        a_gateway(link.url, EXPIRING) as away,
    ):
        away.enter(ANN)
        await eventually(lambda: here.users == {ANN})
        link.cut()
        await eventually(lambda: here.users == set(), seconds=GONE_SECONDS)
        link.mend()
        await eventually(lambda: here.users == away.users == {ANN})
        await eventually(lambda: [*here.presence.entries(LOBBY, ANN)] == [away.presence.node])
    assert here.told[:3] == [(ANN, "joined", 1), (ANN, "left", 0), (ANN, "joined", 1)]
