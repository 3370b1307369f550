"""What is published for those who are there, as the real SDKs see it on two gateways."""

import pytest
from cent import AsyncClient, PublishRequest

from hubbub_client.contracts.ids import ChannelName
from tests.sdk.clients import SdkClient, SdkError
from tests.sdk.site import EPHEMERAL_BURST, Sdk, Site, a_channel, a_user


async def subscribed(sdk: Sdk, site: Site, channel: ChannelName) -> SdkClient:
    client = await sdk.client(site, a_user())
    await client.connect()
    await client.subscribe(channel)
    return client


async def test_it_reaches_all_who_are_there_on_both_gateways(site: Site, sdk: Sdk) -> None:
    channel = a_channel("cursors")
    ann, ben = await subscribed(sdk, site, channel), await subscribed(sdk, site, channel)

    for x in range(3):
        await ann.call("publish", channel, {"x": x})
    first = await ben.until("publication")
    assert [first["data"], *await ben.data(2)] == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert await ann.data(3) == [{"x": 0}, {"x": 1}, {"x": 2}]
    await ben.call("publish", channel, {"by": "ben"})

    assert await ann.data(1) == await ben.data(1) == [{"by": "ben"}]
    assert not first.get("offset")
    assert first["info"]["client"] == ann.events[1]["client"]
    with pytest.raises(SdkError) as refused:
        await ann.call("history", channel, {"limit": 1})
    assert refused.value.code == 108


async def test_who_was_away_never_gets_it(site: Site, sdk: Sdk) -> None:
    channel = a_channel("cursors")
    ann = await subscribed(sdk, site, channel)

    site.hang_up()
    await ann.until("connecting")
    site.publish_ephemeral(channel, "missed")
    await site.publish(a_channel("talk"), "so the bus has passed that on")
    site.send_to(*site.gateways)
    again = await ann.until("subscribed", channel=channel)
    site.publish_ephemeral(channel, "here again")

    assert not again.get("recovered")
    assert await ann.data(1) == ["here again"]
    assert ann.all_data(channel) == ["here again"]


async def test_what_is_stored_beside_it_is_recovered_as_if_it_had_not_been(
    site: Site, sdk: Sdk, api: AsyncClient
) -> None:
    channel = a_channel("talk")
    ann = await subscribed(sdk, site, channel)

    async def pass_on(data: str) -> None:
        await api.publish(PublishRequest(channel=channel, data=data, skip_history=True))

    await site.publish(channel, 0)
    await ann.data(1)
    await pass_on("typing")
    await ann.data(1)
    await site.publish(channel, 1)
    await ann.data(1)
    await pass_on("typing again")
    await ann.data(1)

    site.hang_up()
    await ann.until("connecting")
    site.publish_ephemeral(channel, "missed")
    await site.publish(channel, 2, 3)
    site.send_to(*reversed(site.gateways))
    again = await ann.until("subscribed", channel=channel)
    await site.publish(channel, 4)

    assert (again["wasRecovering"], again["recovered"]) == (True, True)
    assert await ann.data(3) == [2, 3, 4]
    assert ann.all_data(channel) == [0, "typing", 1, "typing again", 2, 3, 4]
    page = await ann.call("history", channel, {"limit": 10})
    assert [each["data"] for each in page["publications"]] == [0, 1, 2, 3, 4]


async def test_who_sends_too_much_of_it_is_told_so_and_goes_on_talking(
    site: Site, sdk: Sdk
) -> None:
    cursors, talk = a_channel("cursors"), a_channel("talk")
    ann = await subscribed(sdk, site, cursors)
    await ann.subscribe(talk)

    for x in range(EPHEMERAL_BURST):
        await ann.call("publish", cursors, {"x": x})
    with pytest.raises(SdkError) as refused:
        await ann.call("publish", cursors, {"x": EPHEMERAL_BURST})
    await ann.call("publish", talk, "hi")

    assert refused.value.code == 111
    assert (await ann.until("publication", channel=talk))["data"] == "hi"


async def test_who_does_not_listen_may_not_publish_it(site: Site, sdk: Sdk) -> None:
    ann = await sdk.client(site, a_user())
    await ann.connect()

    with pytest.raises(SdkError) as refused:
        await ann.call("publish", a_channel("cursors"), {})

    assert refused.value.code == 103
