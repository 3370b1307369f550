"""A session and its subscriptions: N of them live, behind, recovering; over a list."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.connection import Frame
from gateway.channels.registry import CATCHING_UP, Subscription
from gateway.errors import EndReason, MayNotSubscribe
from gateway.session.session import Session
from gateway.streams.feed import Reason
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.clock import our_clock
from shared.tokens.claims import Claims
from tests.gateway.connections import AConnection
from tests.gateway.session.world import ANN, BRIEF, A, B, C, World, encode, offsets, settled


def test_what_is_live_in_three_channels_is_sent_in_one_order() -> None:
    world, tab = World(), AConnection()
    session = world.session(tab, A, B, C)
    world.publish(A, C, B, ChannelName("post:other"), A)
    world.deliver()

    assert offsets(tab) == [1, 2, 3, 5]
    assert session.delivered_offset == 5


def test_nothing_comes_live_before_a_subscription_has_recovered() -> None:
    world, tab = World(), AConnection()
    session = world.session(tab, A)
    session.subscribe(B, encode)
    world.publish(A, B)
    world.deliver()

    assert offsets(tab) == [1]


def test_a_subscription_that_ended_hears_no_more_and_the_others_go_on() -> None:
    world, tab = World(), AConnection()
    session = world.session(tab, A, B)
    session.unsubscribe(session.subscriptions[0])
    world.publish(A, B)
    world.deliver()

    assert offsets(tab) == [2]
    assert [each.channel for each in session.subscriptions] == [B]


@pytest.mark.parametrize("channel", ["$secret", "#2", "unknown:x", "nonsense"])
def test_what_is_not_for_the_user_cannot_be_subscribed(channel: str) -> None:
    world = World()
    session = world.session(AConnection())
    with pytest.raises(MayNotSubscribe):
        session.subscribe(ChannelName(channel), encode)
    session.subscribe(ChannelName(f"#{ANN}"), encode)


async def test_what_one_channel_missed_is_replayed_while_the_others_are_live() -> None:
    world, tab = World(ring_size=100), AConnection()
    session = world.session(tab, A)
    world.publish(*[B] * 5)
    world.deliver()
    with session.recovering(session.subscribe(B, encode)) as recovery:
        tab.stall()
        recovering = asyncio.ensure_future(recovery.run(0, None))
        await settled(lambda: offsets(tab) == [1, 2])
        assert session.delivered_offset == 2
        tab.drain()
        world.publish(A, B)
        world.deliver()
        await recovering

    assert sorted(offsets(tab)) == [1, 2, 3, 4, 5, 6, 7]
    assert [each for each in offsets(tab) if each != 6] == [1, 2, 3, 4, 5, 7], "B has its order"
    assert session.delivered_offset == 7


async def test_who_falls_behind_while_another_channel_recovers_is_sent_nothing_twice() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        session = world.session(tab, A)
        world.publish(A, A, A)
        world.deliver()
        with session.recovering(session.subscribe(B, encode)) as recovery:
            tab.stall()
            tab.has_room = False
            session.send(Frame(b""))
            assert tab.is_behind
            tab.drain()
            await settled(lambda: not tab.is_behind)
            await recovery.run(world.position, None)

        assert offsets(tab) == [1, 2, 3]


async def test_who_subscribes_to_nothing_recovers_at_once() -> None:
    world, tab = World(ring_size=1), AConnection()
    session = world.session(tab)
    world.publish(A, A, A)
    world.deliver()
    with session.recovering() as recovery:
        await recovery.run(0, None)

    assert recovery.is_live
    assert offsets(tab) == []


async def test_a_subscription_that_ends_while_it_recovers_is_sent_no_more() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        session = world.session(tab, A)
        world.publish(*[B] * 5)
        world.deliver()
        subscription = session.subscribe(B, encode)
        with session.recovering(subscription) as recovery:
            tab.stall()
            recovering = group.create_task(recovery.run(0, None))
            await settled(lambda: offsets(tab) == [1, 2])
            session.unsubscribe(subscription)
            tab.drain()
            await recovering

        assert offsets(tab) == [1, 2]


async def test_a_subscription_that_ends_while_it_is_behind_is_sent_no_more() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        session = world.session(tab, A, B)
        tab.stall()
        tab.has_room = False
        world.publish(A, B, A, B)
        world.deliver()
        session.unsubscribe(session.subscriptions[1])
        tab.drain()
        await settled(lambda: not tab.is_behind)

        assert offsets(tab) == [1, 3]


async def test_who_was_ahead_of_this_gateway_and_falls_behind_is_sent_nothing_twice() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        session = world.session(tab, A)
        world.publish(*[A, B] * 5)
        world.deliver(2)
        with session.recovering(session.subscribe(B, encode)) as recovery:
            await recovery.run(8, None)
        tab.stall()
        tab.has_room = False
        world.deliver(2)
        tab.drain()
        await settled(lambda: not tab.is_behind)
        world.deliver()

        assert offsets(tab) == [1, 3, 5, 7, 9, 10]


async def test_who_falls_behind_again_in_another_channel_has_no_more_time() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        session = world.session(tab, A)
        tab.stall()
        tab.has_room = False
        world.publish(A)
        world.deliver()
        session.subscribe(B, encode).live_from = world.position + 1
        world.publish(B, A)
        world.deliver()
        assert tab.fell_behind == 1

        tab.drain()
        await settled(lambda: not tab.is_behind)
        assert sorted(offsets(tab)) == [1, 2, 3]


def test_to_unsubscribe_again_takes_nothing_from_the_next_subscription() -> None:
    world, tab = World(), AConnection()
    session = world.session(tab, A)
    first = session.subscriptions[0]
    session.enter(first)
    session.unsubscribe(first)
    session.enter(session.subscribe(A, encode))
    session.unsubscribe(first)
    assert world.presence == ["enter", "leave", "enter"]

    session.end()
    assert world.presence == ["enter", "leave", "enter", "leave"]


async def test_a_slow_consumer_is_sent_what_all_its_channels_missed_once_and_in_order() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(), AConnection(group)
        session = world.session(tab, A, B, C)
        tab.stall()
        tab.has_room = False
        world.publish(A, B, C, A, B, C, A, B, C)
        world.deliver()
        assert (offsets(tab), tab.is_behind) == ([], True)
        assert session.delivered_offset == 0

        tab.drain()
        await settled(lambda: not tab.is_behind)
        world.publish(A)
        world.deliver()

        assert offsets(tab) == list(range(1, 11))
        assert world.registry.get_sample_value("hubbub_lagging_total") == 1


async def test_of_a_channel_without_history_a_slow_consumer_gets_the_newest_alone() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(ring_size=100), AConnection(group)
        world.session(tab, A, BRIEF)
        tab.stall()
        tab.has_room = False
        world.publish(A, BRIEF, BRIEF, A, BRIEF, A)
        world.deliver()
        tab.drain()
        await settled(lambda: not tab.is_behind)

        assert offsets(tab) == [1, 4, 5, 6]


async def test_a_slow_consumer_is_told_when_the_stream_began_anew_meanwhile() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(), AConnection(group)
        world.session(tab, A)
        world.publish(A, A)
        world.deliver()
        tab.stall()
        tab.has_room = False
        world.publish(A)
        world.deliver()
        world.begin_anew()
        world.publish(A, A, A, A)
        world.deliver()
        tab.drain()
        await settled(lambda: not tab.is_behind)
        world.publish(A)
        world.deliver()

        assert world.holes == [([A], Reason.EPOCH)]
        assert offsets(tab) == [1, 2, 5]


async def test_the_newest_of_a_cache_cannot_be_had_if_the_stream_begins_anew_meanwhile() -> None:
    async def begin_anew() -> None:
        if not world.resets:
            world.begin_anew()

    world = World(ring_size=1, meanwhile=begin_anew)
    session = world.session(AConnection())
    world.publish(A, B)
    world.deliver()
    subscription = session.subscribe(A, encode)

    assert session.recent({subscription: None}) is None
    assert await session.missed({subscription: None}) == {subscription: Reason.EPOCH}


def test_who_is_live_is_told_of_a_hole_once_however_many_its_subscriptions() -> None:
    world, tab = World(), AConnection()
    world.session(tab, A, B, C)
    world.begin_anew()
    world.publish(B)
    world.deliver()

    assert world.holes == [([A, B, C], Reason.EPOCH)]
    assert offsets(tab) == [1]


async def test_of_a_hole_it_is_told_in_which_subscriptions_it_is() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(), AConnection(group)
        session = world.session(tab, A, B)
        tab.stall()
        tab.has_room = False
        world.publish(A)
        world.deliver()
        session.subscribe(C, encode).live_from = world.position + 1
        session.unsubscribe(session.subscriptions[1])
        world.begin_anew()
        assert world.holes == [([C], Reason.EPOCH)]

        tab.drain()
        await settled(lambda: not tab.is_behind)
        assert world.holes == [([C], Reason.EPOCH), ([A], Reason.EPOCH)]


async def test_a_slow_consumer_that_is_lost_ends_its_work() -> None:
    async with asyncio.TaskGroup() as group:
        world, tab = World(), AConnection(group)
        session = world.session(tab, A)
        tab.stall()
        tab.has_room = False
        world.publish(A)
        world.deliver()
        tab.lose()
        session.end()
        world.publish(A)
        world.deliver()

    assert offsets(tab) == []
    assert not world.manager.connections()
    assert not world.manager.channels()


@pytest.mark.parametrize(("grace", "least"), [(0, 3000), (25, 3025)])
def test_a_session_ends_with_its_token_or_some_time_later(grace: float, least: float) -> None:
    world, tab = World(), AConnection()
    kind = replace(world.kind, expiry_grace_seconds=grace)
    claims = Claims(ANN, "Ann", None, issued_at=0, expires_at=our_clock() + 3600)

    Session(tab, claims, kind).begin()

    assert tab.closes_after is not None
    seconds, reason = tab.closes_after
    assert least < seconds <= 3600 + grace
    assert reason is EndReason.TOKEN_EXPIRED


STEPS = st.lists(
    st.sampled_from(["publish a", "publish b", "publish c", "deliver", "stall", "drain", "wait"]),
    max_size=60,
)


@given(STEPS, st.integers(1, 6))
def test_whatever_stalls_everything_is_sent_once_and_in_order(
    steps: list[str], ring_size: int
) -> None:
    async def live_through() -> None:
        async with asyncio.TaskGroup() as group:
            world, tab = World(ring_size=ring_size), AConnection(group)
            world.session(tab, A, B, C)
            tab.has_room = False
            for step in steps:
                match step.split():
                    case ["publish", name]:
                        world.publish(ChannelName(f"post:{name}"))
                    case ["deliver"]:
                        world.deliver(1)
                    case ["stall"]:
                        tab.stall()
                    case ["drain"] if tab.is_stalled:
                        tab.drain()
                    case _:
                        await asyncio.sleep(0)
            if tab.is_stalled:
                tab.drain()
            world.deliver()
            await settled(lambda: not tab.is_behind)
            assert offsets(tab) == list(range(1, world.position + 1))

    asyncio.run(live_through())


MORE_STEPS = st.lists(
    st.one_of(
        st.sampled_from(["deliver", "stall", "drain", "wait", "wait", "tell"]),
        st.tuples(
            st.sampled_from(["publish", "say", "say", "unsubscribe"]), st.sampled_from([A, B])
        ),
        st.tuples(st.just("subscribe"), st.sampled_from([A, B]), st.integers(0, 5)),
    ),
    min_size=8,
    max_size=40,
)


@given(MORE_STEPS, st.integers(1, 6))
def test_whatever_is_subscribed_when_each_subscription_is_sent_all_of_its_own_once_and_in_order(
    steps: list[str | tuple[str, ChannelName] | tuple[str, ChannelName, int]], ring_size: int
) -> None:
    """Each names an offset, that may be ahead of this gateway, and has a format of its own."""

    async def live_through() -> None:
        async with asyncio.TaskGroup() as group:
            world, tab = World(ring_size=ring_size), AConnection(group)
            session = world.session(tab)
            tab.has_room = False
            begun: list[tuple[Subscription, int]] = []

            async def recover(subscription: Subscription, since: int) -> None:
                with session.recovering(subscription) as recovery:
                    await recovery.run(since, None)

            def subscribe(channel: ChannelName, since: int) -> None:
                number = len(begun)
                subscription = session.subscribe(
                    channel, lambda stored: Frame(b"%d:%d " % (number, stored.offset))
                )
                begun.append((subscription, since))
                group.create_task(recover(subscription, since))

            for step in steps:
                match step:
                    case "deliver":
                        world.deliver(1)
                    case "stall":
                        tab.stall()
                    case "drain" if tab.is_stalled:
                        tab.drain()
                    case "tell":
                        session.send(Frame(b""))
                    case "publish", channel:
                        world.publish(channel)
                    case "say", channel:
                        world.publish(channel)
                        world.deliver()
                    case "unsubscribe", channel:
                        for subscription in session.subscriptions:
                            if subscription.channel == channel:
                                session.unsubscribe(subscription)
                    case "subscribe", channel, since:
                        if channel not in [each.channel for each in session.subscriptions]:
                            subscribe(channel, min(since, len(world.stream.messages)))
                    case _:
                        await asyncio.sleep(0)
            if tab.is_stalled:
                tab.drain()
            world.deliver()
            await settled(lambda: not tab.is_behind)
            await settled(lambda: all(not is_catching_up(each) for each, _ in begun))

            sent = [each.split(b":") for each in b"".join(tab.sent).split()]
            for number, (subscription, since) in enumerate(begun):
                its_own = [int(offset) for by, offset in sent if int(by) == number]
                due = [
                    each.sequence
                    for each in world.stream.messages
                    if each.sequence > since and each.subject.endswith(subscription.channel)
                ]
                assert its_own == (due[: len(its_own)] if subscription.is_over else due)

    asyncio.run(live_through())


def is_catching_up(subscription: Subscription) -> bool:
    return subscription.live_from == CATCHING_UP and not subscription.is_over
