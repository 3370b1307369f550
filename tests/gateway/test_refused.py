"""Why somebody was not let in, as it is counted."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode

from gateway.errors import EndReason
from gateway.metrics import GatewayMetrics
from tests.gateway.chatting import a_gateway, a_room
from tests.gateway.serving import until

NAME = "hubbub_connections_refused_total"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"binary", "binary_frame"),
        ("x" * 65537, "too_big"),
        ("no token", "invalid_token"),
        (RawFrame(Opcode.TEXT, b"\xff"), "not_utf8"),
        (RawFrame(Opcode.CONT, b""), "protocol_error"),
        (RawFrame(Opcode.CLOSE, b"\x03\xf0Invalid token"), "left"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
async def test_who_ends_before_it_shows_a_token_is_counted_by_what_it_did(
    nats_url: str, message: Any, reason: str
) -> None:
    async with a_gateway(nats_url) as gateway, gateway.socket(room=a_room()) as tab:
        if isinstance(message, RawFrame):
            tab.socket.transport.write(message.serialize(mask=True))
        else:
            await tab.socket.send(message)
        with pytest.raises(ConnectionClosed):
            await tab.get()
        await until(lambda: gateway.metric(NAME, reason=reason) == 1)


def test_each_close_of_ours_is_counted_under_a_reason_of_its_own() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)

    for ended in (*EndReason, 1002, 1007, 1009, None):
        metrics.refused(ended)

    reasons = {
        sample.labels["reason"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == NAME
    }
    assert len(reasons) == len(EndReason) + 4
    assert set(reasons.values()) == {1}
    assert "other" not in reasons
