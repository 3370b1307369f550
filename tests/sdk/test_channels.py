"""What the real SDKs do in channels."""

from typing import Any

import pytest
from cent import AsyncClient, SubscribeRequest, UnsubscribeRequest

from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.ids import UserId
from tests.sdk.clients import SdkClient, SdkError
from tests.sdk.javascript import VERSIONS
from tests.sdk.site import Sdk, Site, a_channel, a_user, connection_token, subscription_token


async def connected(sdk: Sdk, site: Site, user: str | None = None, **options: Any) -> SdkClient:
    client = await sdk.client(site, user, **options)
    await client.connect()
    return client


async def refusal_of(client: SdkClient, method: str, *args: Any) -> int | None:
    with pytest.raises(SdkError) as refused:
        await client.call(method, *args)
    return refused.value.code


async def test_what_is_published_reaches_all_subscribers_on_both_gateways(
    site: Site, sdk: Sdk
) -> None:
    channel, user = a_channel("talk"), a_user()
    ann, ben = await connected(sdk, site, user), await connected(sdk, site)
    await ann.subscribe(channel)
    await ben.subscribe(channel)

    for text in ("one", "two"):
        await ann.call("publish", channel, {"text": text, "é": "🎉"})

    assert await ann.data(2) == [{"text": text, "é": "🎉"} for text in ("one", "two")]
    first = await ben.until("publication")
    assert first["data"] == {"text": "one", "é": "🎉"}
    assert first["info"]["user"] == user
    assert first["info"]["client"] == ann.events[1]["client"]


async def test_what_a_service_publishes_has_no_sender(site: Site, sdk: Sdk) -> None:
    channel = a_channel("news")
    ann = await connected(sdk, site)
    await ann.subscribe(channel)

    await site.publish(channel, {"text": "hi"})

    publication = await ann.until("publication")
    assert publication["data"] == {"text": "hi"}
    assert not publication.get("info")
    assert await refusal_of(ann, "publish", channel, {}) == 103


async def test_a_subscription_ends_and_begins_many_times(site: Site, sdk: Sdk) -> None:
    channel = a_channel("talk")
    ann = await connected(sdk, site)
    await ann.subscribe(channel)

    for _ in range(10):
        await ann.call("unsubscribe", channel=channel)
        await ann.resubscribe(channel)
    stats = await ann.call("presenceStats", channel)
    await ann.unsubscribe(channel)
    await site.until_left(channel)
    await site.publish(channel, "missed")
    await ann.resubscribe(channel)

    assert stats == {"numClients": 1, "numUsers": 1}
    assert await ann.data(1) == ["missed"]  # it recovers


@pytest.mark.parametrize(
    ("name", "code"), [("nowhere:x", 102), ("$talk:x", 103), ("talk:ü", 107), ("talk:a b", 107)]
)
async def test_a_subscription_that_is_refused_ends(
    site: Site, sdk: Sdk, name: str, code: int
) -> None:
    ann = await connected(sdk, site)
    await ann.call("newSubscription", {}, channel=name)

    await ann.call("subscribe", channel=name)

    assert (await ann.until("unsubscribed", channel=name))["code"] == code


async def test_a_token_opens_a_private_channel_for_its_user(site: Site, sdk: Sdk) -> None:
    channel, user = "$" + a_channel("talk"), a_user()
    ann, ben = await connected(sdk, site, user), await connected(sdk, site)

    token = subscription_token(user, channel, info={"role": "dj"})
    await ann.subscribe(channel, token=token)
    await ben.call("newSubscription", {"token": token}, channel=channel)
    await ben.call("subscribe", channel=channel)
    await ann.call("publish", channel, "hi")

    assert (await ann.until("publication"))["info"]["chanInfo"] == {"role": "dj"}
    assert (await ben.until("disconnected"))["code"] == 3500  # it is another's


async def test_presence_shows_each_connection_on_both_gateways(site: Site, sdk: Sdk) -> None:
    channel, user = a_channel("talk"), a_user()
    token = connection_token(user, info={"name": "Ann"})
    ann, tab = await sdk.client(site, token=token), await sdk.client(site, token=token)
    ids = [(await each.connect())["client"] for each in (ann, tab)]
    await ann.subscribe(channel, joinLeave=True)
    await ann.until("join")
    await tab.subscribe(channel)

    await ann.until("join")
    clients = (await ann.call("presence", channel))["clients"]
    stats = await ann.call("presenceStats", channel)
    await tab.disconnect()
    await ann.until("leave")
    rest = await ann.call("presenceStats", channel)

    assert clients.keys() == set(ids)
    assert {(each["user"], each["connInfo"]["name"]) for each in clients.values()} == {
        (user, "Ann")
    }
    assert stats == {"numClients": 2, "numUsers": 1}
    assert rest == {"numClients": 1, "numUsers": 1}


async def test_who_asks_for_it_hears_who_comes_and_goes(site: Site, sdk: Sdk) -> None:
    channel = a_channel("talk")
    ann, ben = await connected(sdk, site), await connected(sdk, site)
    me = ann.events[1]["client"]
    them = ben.events[1]["client"]
    await ann.subscribe(channel, joinLeave=True)

    assert (await ann.until("join"))["info"]["client"] == me
    await ben.subscribe(channel)
    assert (await ann.until("join"))["info"]["client"] == them
    await ben.unsubscribe(channel)
    assert (await ann.until("leave"))["info"]["client"] == them
    await ben.resubscribe(channel)
    await ann.until("join")
    await ben.disconnect()
    assert (await ann.until("leave"))["info"]["client"] == them


async def test_history_is_read_page_by_page_in_both_directions(site: Site, sdk: Sdk) -> None:
    channel = a_channel("talk")
    await site.publish(channel, *range(5))
    ann = await connected(sdk, site)
    await ann.subscribe(channel)

    def data(page: dict[str, Any]) -> list[int]:
        return [each["data"] for each in page["publications"]]

    def end(page: dict[str, Any]) -> dict[str, Any]:
        return {"offset": page["publications"][-1]["offset"], "epoch": page["epoch"]}

    first = await ann.call("history", channel, {"limit": 2})
    second = await ann.call("history", channel, {"limit": 10, "since": end(first)})
    newest = await ann.call("history", channel, {"limit": 2, "reverse": True})
    older = await ann.call("history", channel, {"limit": 10, "reverse": True, "since": end(newest)})
    position = await ann.call("history", channel, {})

    assert (data(first), data(second)) == ([0, 1], [2, 3, 4])
    assert (data(newest), data(older)) == ([4, 3], [2, 1, 0])
    assert data(position) == []
    assert position["offset"] == end(second)["offset"]
    lost = {"limit": 1, "since": {"offset": 1, "epoch": "another"}}
    assert await refusal_of(ann, "history", channel, lost) == 112


async def test_what_a_namespace_does_not_keep_is_not_available(site: Site, sdk: Sdk) -> None:
    channel = a_channel("plain")
    ann = await connected(sdk, site)
    await ann.subscribe(channel)

    assert await refusal_of(ann, "history", channel, {"limit": 1}) == 108
    assert await refusal_of(ann, "presence", channel) == 108
    assert await refusal_of(ann, "presenceStats", channel) == 108


async def test_publications_of_a_state_come_as_patches(site: Site, sdk: Sdk) -> None:
    channel = a_channel("state")
    states = [{"n": n, "pad": "€🎉" * 50, "m": -n} for n in range(5)]
    ann = await connected(sdk, site)
    await ann.subscribe(channel, delta="fossil")

    seen = []
    for state in states:  # those of one turn would all be whole
        await site.publish(channel, state)
        seen += await ann.data(1)

    assert seen == states
    if sdk.name == VERSIONS[0]:  # which counts
        stats = await ann.call("deltaStats", channel=channel)
        assert (stats["numFullPayloads"], stats["numDeltaPayloads"]) == (1, 4)


async def test_a_user_has_a_channel_of_their_own_without_asking(site: Site, sdk: Sdk) -> None:
    user = a_user()
    ann = await connected(sdk, site, user)

    await site.publish(personal_channel(UserId(user)), {"note": "for you"})

    publication = await ann.until("publication")
    assert (publication["channel"], publication["data"]) == (f"#{user}", {"note": "for you"})
    assert not publication["ofSubscription"]


async def test_an_operator_subscribes_a_user_and_ends_that(
    site: Site, sdk: Sdk, api: AsyncClient
) -> None:
    channel, user = a_channel("talk"), a_user()
    ann = await connected(sdk, site, user)

    await api.subscribe(SubscribeRequest(user=user, channel=channel))
    subscribed = await ann.until("subscribed", channel=channel)
    await site.publish(channel, "hi")
    heard = await ann.until("publication", channel=channel)
    await api.unsubscribe(UnsubscribeRequest(user=user, channel=channel))
    await ann.until("unsubscribed", channel=channel)

    assert not subscribed["ofSubscription"]
    assert heard["data"] == "hi"


async def test_an_operator_ends_a_subscription(site: Site, sdk: Sdk, api: AsyncClient) -> None:
    channel, user = a_channel("talk"), a_user()
    ann = await connected(sdk, site, user)
    await ann.subscribe(channel)

    await api.unsubscribe(UnsubscribeRequest(user=user, channel=channel))

    unsubscribed = await ann.until("unsubscribed")
    assert (unsubscribed["code"], unsubscribed["reason"]) == (2000, "server unsubscribe")
