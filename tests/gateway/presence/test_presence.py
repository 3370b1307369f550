"""Presence of several gateways on one server: all report the same, and each user once."""

from dataclasses import replace

import pytest

from gateway.presence.records import (
    REMOVAL_HEADERS,
    Entry,
    EntryKey,
    NodeId,
    entry_subject,
    lease_subject,
)
from hubbub_client.contracts.ids import ChannelName, ConnectionId
from hubbub_client.jetstream.stream_reader import StreamReader
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    CLEO,
    EXPIRING,
    GONE_SECONDS,
    LOBBY,
    QUICK,
    a_gateway,
    never,
    until_entries_in_the_stream,
)

ANOTHER = ChannelName("chat:another")


async def test_a_user_on_two_gateways_joins_once_and_leaves_once(server: NatsServer) -> None:
    async with a_gateway(server.url) as one, a_gateway(server.url) as two:
        one.enter(ANN, "tab 1")
        two.enter(ANN, "tab 2")
        two.enter(ANN, "tab 3")
        assert await one.until_present(ANN, 20)
        assert await two.until_present(ANN, 20)
        counts = one.presence.count(LOBBY), two.presence.count(LOBBY)
        for gateway in (one, two):
            await eventually(lambda g=gateway: len(g.presence.entries(LOBBY, ANN)) == 2)  # type: ignore[misc]
        one.leave(ANN, "tab 1")
        await eventually(lambda: len(two.presence.entries(LOBBY, ANN)) == 1)
        two.leave(ANN, "tab 2")
        two.leave(ANN, "tab 3")
        await eventually(lambda: one.users == two.users == set())

    assert counts == (1, 1)
    assert one.told == two.told == [(ANN, "joined", 1), (ANN, "left", 0)]


async def test_each_of_a_users_connections_elsewhere_counts_once(server: NatsServer) -> None:
    async with a_gateway(server.url) as one, a_gateway(server.url) as two:
        one.enter(ANN, "tab 1")
        two.enter(ANN, "tab 2")
        two.enter(ANN, "tab 3")
        two.presence.enter(ANOTHER, ANN, "Ann", ConnectionId("tab 3"))  # one tab, two channels
        two.enter(BOB, "tab 4")
        await eventually(lambda: one.presence.connections_elsewhere(ANN) == 2)
        await eventually(lambda: two.presence.connections_elsewhere(ANN) == 1)
        two.leave(ANN, "tab 2")
        await eventually(lambda: one.presence.connections_elsewhere(ANN) == 1)
        assert one.presence.connections_elsewhere(CLEO) == 0
        one.leave(ANN, "tab 1")  # whose entry stays for the grace
        assert one.presence.connections_elsewhere(ANN) == 1


async def test_an_entry_lists_the_connections_of_its_node(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        gateway.enter(ANN, "tab 1")
        await gateway.until_present(ANN, 20)
        gateway.enter(ANN, "tab 2")

        def listed() -> list[tuple[ConnectionId, ...]]:
            entries = gateway.presence.entries(LOBBY, ANN)
            return [entry.connections for entry in entries.values()]

        await eventually(lambda: listed() == [("tab 1", "tab 2")])
        gateway.leave(ANN, "tab 1")
        await eventually(lambda: listed() == [("tab 2",)])

    assert gateway.told == [(ANN, "joined", 1)]


async def test_a_reload_is_not_seen(server: NatsServer) -> None:
    limits = replace(QUICK, grace_seconds=1.5)
    async with a_gateway(server.url, limits) as gateway:
        gateway.enter(ANN, "before")
        await gateway.until_present(ANN, 20)
        gateway.leave(ANN, "before")
        await eventually(lambda: not gateway.tabs)
        gateway.enter(ANN, "after")
        await never(lambda: len(gateway.changes) > 1, seconds=limits.grace_seconds + 0.3)

    assert gateway.told == [(ANN, "joined", 1)]


async def test_a_waiter_for_a_user_who_does_not_come_is_called_at_the_deadline(
    server: NatsServer,
) -> None:
    async with a_gateway(server.url) as gateway:
        assert not await gateway.until_present(ANN, 0.05)


async def test_a_gateway_that_starts_later_has_the_same_users(server: NatsServer) -> None:
    async with a_gateway(server.url) as one:
        for user_id in (ANN, BOB, CLEO):
            one.enter(user_id)
            await one.until_present(user_id, 20)
        async with a_gateway(server.url) as two:
            assert two.presence.users(LOBBY) == one.presence.users(LOBBY)


async def test_after_a_lease_is_released_users_may_change_gateways_unseen_and_the_others_leave_soon(
    server: NatsServer,
) -> None:
    limits = replace(QUICK, grace_seconds=3)  # a lease that is not released lasts far longer
    async with a_gateway(server.url, limits) as stays:
        async with a_gateway(server.url, limits) as stops:
            stops.enter(ANN)
            stops.enter(BOB)
            await eventually(lambda: stays.users == {ANN, BOB})
            stops.leave(ANN)
            stops.leave(BOB)
            await stops.presence.release_lease()
        stays.enter(ANN)
        await eventually(lambda: stays.users == {ANN}, seconds=GONE_SECONDS)
        await never(lambda: len(stays.changes) > 3, seconds=0.3)

    assert stays.told[-1] == (BOB, "left", 1)
    assert len(stays.told) == 3


async def test_a_late_write_under_our_own_name_is_corrected(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        gateway.enter(BOB)
        await gateway.until_present(BOB, 20)
        assert gateway.presence.node is not None
        for user_id in (ANN, BOB):  # like a write that timed out and was stored much later
            key = EntryKey((LOBBY, user_id), gateway.presence.node)
            late = Entry("Late", 0, ()).encode() if user_id == ANN else b""
            await gateway.publisher.publish(
                entry_subject(key),
                late,
                message_id=f"late {user_id}",
                headers=None if late else REMOVAL_HEADERS,
            )
        await eventually(lambda: len(gateway.changes) >= 5)
        await never(lambda: len(gateway.changes) > 5, seconds=0.3)

        assert gateway.users == {BOB}


async def test_entries_without_a_lease_are_removed(server: NatsServer) -> None:
    async with a_gateway(server.url, EXPIRING) as gateway:
        key = EntryKey((LOBBY, ANN), NodeId("dead"))
        body = Entry("Ann", 0, ()).encode()
        await gateway.publisher.publish(entry_subject(key), body, message_id="orphan")
        await until_entries_in_the_stream(gateway, 0)

    assert gateway.told == []


async def test_unreadable_messages_are_ignored(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        for number, subject in enumerate(["pres.st.x", "pres.st.a.b.c", "pres.st.a.1.n"]):
            await gateway.publisher.publish(subject, b"\xff{", message_id=f"bad {number}")
        gateway.enter(ANN)

        assert await gateway.until_present(ANN, 20)


async def test_a_lease_is_written_before_the_first_entry(server: NatsServer) -> None:
    async with a_gateway(server.url) as gateway:
        gateway.enter(ANN)
        await gateway.until_present(ANN, 20)
        assert gateway.presence.node is not None
        reader = StreamReader(gateway.bus, "PRES")
        found = await reader.last_of(lease_subject(gateway.presence.node))
        assert found is not None
        assert found.payload


@pytest.mark.parametrize(
    "impossible",
    [
        {"lease_seconds": 0.5, "renew_seconds": 0.1},
        {"tombstone_seconds": 0.5},
        {"lease_seconds": 2, "renew_seconds": 1.5},
        {"max_info_bytes": 40_000},
    ],
)
def test_limits_under_which_presence_could_not_work_are_refused(
    impossible: dict[str, float],
) -> None:
    with pytest.raises(ValueError, match=r"second|survive|room"):
        replace(QUICK, **impossible)  # type: ignore[arg-type]
