"""What a service is answered that asks all gateways, and one of them has no answer."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.channels.registry import ConnectionManager
from gateway.cluster import Cluster, ClusterLimits
from gateway.protocols.centrifuge.codec import WEBSOCKET
from gateway.server_api.errors import Begun
from gateway.server_api.requests import ChannelsRequest, InfoRequest
from gateway.server_api.surveying import MAX_CHANNELS, Surveying
from gateway.transport.coalescer import WriteCoalescer
from hubbub_client.contracts.ids import ChannelName, UserId
from tests.fixtures.nats import NatsServer
from tests.gateway.members import AMember
from tests.gateway.test_cluster import Gateways


@pytest.fixture
async def gateways(nats_server: Callable[[], NatsServer]) -> AsyncGenerator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(nats_server().url, stack)


def a_surveying(cluster: Cluster, channels: list[str]) -> Surveying:
    """Of a gateway where somebody listens to these channels."""
    manager, member = ConnectionManager(WriteCoalescer(lambda flush: flush())), AMember(UserId("1"))
    manager.connect(member)
    for channel in channels:
        manager.subscribe(member, ChannelName(channel), WEBSOCKET.publication)
    return Surveying(cluster, manager)


async def test_without_a_gateway_that_is_silent_there_is_no_answer(gateways: Gateways) -> None:
    surveying = a_surveying(await gateways.start(lambda _asked: None), ["chat:a"])
    gateways.leases.append("of one who died")

    for asking in (
        Begun(surveying.channels, ChannelsRequest()),
        Begun(surveying.info, InfoRequest()),
    ):
        answer = await asking
        assert answer["error"]["code"] == 100


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([f"chat:{number}" for number in range(MAX_CHANNELS)], None),
        ([f"chat:{number}" for number in range(MAX_CHANNELS + 1)], 108),
        ([f"chat:{number:0240}" for number in range(3000)], 108),
    ],
    ids=["most", "too many", "too long together"],
)
async def test_channels_beyond_what_a_gateway_can_answer_are_not_available(
    gateways: Gateways, names: list[str], code: int | None
) -> None:
    patient = ClusterLimits(survey_seconds=60)
    one, two = [await gateways.start(lambda _asked: None, limits=patient) for _ in range(2)]
    asking, _asked = a_surveying(one, []), a_surveying(two, names)

    answer = await Begun(asking.channels, ChannelsRequest())

    assert answer.get("error", {}).get("code") == code
    assert code or len(answer["result"]["channels"]) == len(names)
