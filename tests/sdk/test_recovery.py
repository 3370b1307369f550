"""What a client misses, and gets when it comes back, to whichever gateway."""

import pytest

from tests.sdk.site import (
    IN_NODE,
    SDKS,
    SHORT_SECONDS,
    Sdk,
    Site,
    a_channel,
    a_user,
    subscription_token,
)


async def test_who_comes_back_to_the_other_gateway_gets_what_was_missed(
    site: Site, sdk: Sdk
) -> None:
    channel = a_channel("talk")
    first, second = site.gateways
    site.send_to(first)
    ann = await sdk.client(site)
    await ann.connect()
    await ann.subscribe(channel)
    await site.publish(channel, 0, 1)
    await ann.data(2)

    site.hang_up()
    await ann.until("connecting")
    await site.publish(channel, 2, 3)
    site.send_to(second)

    again = await ann.until("subscribed")
    await site.publish(channel, 4)
    assert (again["wasRecovering"], again["recovered"]) == (True, True)
    assert await ann.data(3) == [2, 3, 4]
    assert ann.all_data(channel) == [0, 1, 2, 3, 4]


async def test_who_subscribes_again_gets_what_was_missed(site: Site, sdk: Sdk) -> None:
    channel = a_channel("talk")
    ann = await sdk.client(site)
    await ann.connect()
    await ann.subscribe(channel)

    await ann.unsubscribe(channel)
    await site.until_left(channel)
    await site.publish(channel, 1, 2)
    again = await ann.resubscribe(channel)

    assert again["recovered"]
    assert await ann.data(2) == [1, 2]


async def test_who_missed_more_than_is_kept_is_told_so(site: Site, sdk: Sdk) -> None:
    channel, behind_it = a_channel("short"), a_channel("talk")
    ann = await sdk.client(site)
    await ann.connect()
    await ann.subscribe(behind_it)
    await ann.subscribe(channel)
    await site.publish(channel, 0)
    await ann.data(1)

    await ann.unsubscribe(channel)
    await site.until_left(channel)
    await site.publish(channel, 1, 2, 3)
    await site.publish(behind_it, "seen")  # the gateway has seen what comes before it, too
    await ann.data(1)
    again = await ann.resubscribe(channel)
    await site.publish(channel, 4)

    assert (again["wasRecovering"], again["recovered"]) == (True, False)
    assert await ann.data(1) == [4]


@pytest.mark.parametrize("sdk", IN_NODE, indirect=True)
async def test_a_position_of_another_life_of_the_stream_is_not_recovered(
    site: Site, sdk: Sdk
) -> None:
    channel = a_channel("talk")
    await site.publish(channel, "before")
    ann = await sdk.client(site)
    await ann.connect()

    subscribed = await ann.subscribe(channel, since={"offset": 1, "epoch": "another"})

    assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
    assert not ann.all_data(channel)


async def test_who_says_so_is_refused_what_cannot_be_recovered(site: Site, sdk: Sdk) -> None:
    """And reads the whole state again, with another position."""
    channel = a_channel("talk")
    ann = await sdk.client(site)
    await ann.connect()
    await ann.subscribe(channel)
    await site.publish(channel, 0, 1)
    await ann.data(2)
    page = await ann.call("history", channel, {"limit": 1})
    good = {"offset": page["publications"][0]["offset"], "epoch": page["epoch"]}
    ben = await sdk.client(site)
    await ben.connect()

    subscribed = await ben.subscribe(channel, positions=[good | {"epoch": "another"}, good])

    assert subscribed["recovered"]
    assert await ben.data(1) == [1]
    assert [each["event"] for each in ben.events].count("position") == 2


async def test_a_state_begins_anew_in_full_after_a_recovery(site: Site, sdk: Sdk) -> None:
    channel = a_channel("state")
    states = [{"n": n, "pad": "€🎉" * 50} for n in range(7)]
    ann = await sdk.client(site)
    await ann.connect()
    await ann.subscribe(channel, delta="fossil")
    await site.publish(channel, *states[:2])
    await ann.data(2)

    site.hang_up()
    await ann.until("connecting")
    await site.publish(channel, *states[2:4])
    site.send_to(*site.gateways)
    await ann.until("subscribed")
    await site.publish(channel, states[4])
    missed = await ann.data(3)
    await ann.unsubscribe(channel)  # and nothing is missed
    await ann.resubscribe(channel)
    await site.publish(channel, *states[5:])

    assert missed + await ann.data(2) == states[2:]


async def test_an_expired_token_of_a_subscription_brings_the_client_back(
    site: Site, sdk: Sdk
) -> None:
    """An error would make the SDK give the subscription up."""
    channel, user = a_channel("talk"), a_user()
    expired = subscription_token(user, channel, seconds=-1)
    short, long = (subscription_token(user, channel, seconds=each) for each in (SHORT_SECONDS, 900))
    ann = await sdk.client(site, user)
    await ann.connect()
    await ann.subscribe(channel, tokens=[short, expired, long])

    ended = await ann.until("connecting")
    await site.publish(channel, "missed?")
    await ann.until("subscribed")

    assert (ended["code"], ended["reason"]) == (3006, "subscription expired")
    assert await ann.data(1) == ["missed?"]


async def test_a_subscription_outlives_its_token_by_the_next(site: Site, sdk: Sdk) -> None:
    channel, user = a_channel("talk"), a_user()
    short = subscription_token(user, channel, seconds=SHORT_SECONDS)
    tokens = [short, subscription_token(user, channel)]
    ann = await sdk.client(site, user)
    await ann.connect()
    await ann.subscribe(channel, tokens=tokens)

    await ann.until("token")
    await ann.call("publish", channel, "still here")

    assert await ann.data(1) == ["still here"]
    assert [each["event"] for each in ann.events].count("subscribing") == 1


@pytest.mark.parametrize("sdk", [each for each in SDKS if "5.7.1" not in each], indirect=True)
async def test_a_publication_at_which_the_handler_threw_comes_again(site: Site, sdk: Sdk) -> None:
    channel = a_channel("talk")
    ann = await sdk.client(site, throws=1)  # 5.7.1 stands still for good
    await ann.connect()
    await ann.subscribe(channel)

    await site.publish(channel, "one", "two")
    ended = await ann.until("disconnected")
    await ann.connect()

    assert ended["code"] == 2  # the SDK's own: it can't know what the handler left undone
    assert await ann.data(2) == ["one", "two"]
