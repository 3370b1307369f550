"""Networks that are late, stall and break: between a tab and the edge, a gateway and NATS."""

from urllib.parse import urlsplit

from tests.e2e.fault_proxy import Faults, fault_proxy
from tests.e2e.people import a_room, sign_up, sign_up_all
from tests.e2e.promises import (
    a_later_line,
    assert_each_once_in_order,
    eventually,
    everybody_talking,
    tabs_of,
)
from tests.e2e.stack import Stack
from tests.system.tab import persistent_tab


async def test_a_tab_on_a_slow_and_broken_network_gets_everything_and_slows_nobody_down(
    stack: Stack,
) -> None:
    room = a_room()
    near = await sign_up_all(stack, "Ann", "Bob")
    far = await sign_up(stack, "Cid")
    edge = urlsplit(stack.url)
    assert edge.hostname is not None
    assert edge.port is not None
    async with (
        fault_proxy(edge.hostname, edge.port) as (proxy, port),
        tabs_of(stack, near, room) as tabs,
    ):
        proxy.faults = Faults(latency_seconds=0.2, jitter_seconds=0.1)
        address = f"ws://127.0.0.1:{port}"
        async with persistent_tab(address, token=far.token, room=room) as slow:
            async with everybody_talking([*tabs, slow]) as said:
                await slow.until_has({"u0-10"})
                proxy.faults = Faults(stalled=True)
                unheard = a_later_line(tabs[0], "u0", ahead=20)
                await tabs[1].until_has(unheard)
                assert not unheard & set(slow.bodies()), "the others don't wait for it"
                proxy.faults = Faults(latency_seconds=0.2, jitter_seconds=0.1)
                await slow.until_has(unheard)
                proxy.reset_all()
                await eventually(lambda: len(slow.of_type("welcome")) > 1)
            await assert_each_once_in_order([*tabs, slow], said)


async def test_a_gateway_far_from_nats_is_slow_but_loses_nothing(stack: Stack) -> None:
    room = a_room()
    near = await sign_up_all(stack, "Ann", "Bob")
    far = await sign_up_all(stack, "Cid", "Dan")
    with stack.far_gateway() as gateway:
        faults = gateway.faults
        faults.set(latency_seconds=0.05, jitter_seconds=0.02)
        async with (
            tabs_of(stack, near, room) as tabs,
            persistent_tab(gateway.ws_url, token=far[0].token, room=room) as cids,
            persistent_tab(gateway.ws_url, token=far[1].token, room=room) as dans,
        ):
            async with everybody_talking([*tabs, cids, dans]) as said:
                await dans.until_has({"u0-5", "u2-5"})
                faults.set(stalled=True)
                unheard = a_later_line(tabs[0], "u0", ahead=20)
                await tabs[1].until_has(unheard)
                assert not unheard & set(dans.bodies())
                faults.set(latency_seconds=0.05)
                await dans.until_has(unheard)
                faults.reset_all()
                await cids.until_has(a_later_line(cids, "u3"))
            await assert_each_once_in_order([*tabs, cids, dans], said)

    assert [len(tab.of_type("welcome")) for tab in (cids, dans)] == [1, 1], "sockets are kept"
