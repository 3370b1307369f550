"""The URLs of the protocol."""

from contextlib import suppress

from gateway.protocols.centrifuge import codes
from gateway.protocols.centrifuge.client import CentrifugeClient
from gateway.protocols.centrifuge.codec import WEBSOCKET
from gateway.protocols.centrifuge.service import CentrifugeService
from gateway.transport.upgrade import Upgrade
from shared.web.query import read_query

JSON, PROTOBUF = "centrifuge-json", "centrifuge-protobuf"


def take_websocket(service: CentrifugeService, upgrade: Upgrade) -> None:
    """`/connection/websocket`: a client that speaks JSON; one that speaks Protobuf is told no."""
    request = upgrade.request
    offered = request.subprotocols
    query = read_query(request.query)
    is_protobuf = PROTOBUF in offered or "protobuf" in (
        query.get("cf_protocol"), query.get("format")
    )  # fmt: skip
    chosen = next((each for each in offered if each in (JSON, PROTOBUF)), None)
    with suppress(ConnectionResetError):  # it went away in its own handshake
        client = upgrade.accept(
            lambda connection: CentrifugeClient(
                connection, service, WEBSOCKET, address=upgrade.client_host
            ),
            subprotocol=chosen,
        )
        client.open()
        if is_protobuf:
            client.connection.close(codes.BAD_REQUEST)
