"""The URLs of the protocol: WebSockets, streams whose commands come with other requests, and
transports on which the server alone speaks.

Source: centrifugal/centrifuge, handler_websocket.go, handler_sse.go, handler_http_stream.go,
emulation.go and the unidirectional handlers.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus

from gateway.channels.connection import isolate_failure
from gateway.cluster import NoSuchNode
from gateway.protocols.centrifuge import codes
from gateway.protocols.centrifuge.client import CentrifugeClient
from gateway.protocols.centrifuge.codec import (
    DEFLATED,
    HTTP_STREAM,
    SSE,
    UNI_HTTP_STREAM,
    UNI_SSE,
    UNI_WEBSOCKET,
    WEBSOCKET,
    Codec,
)
from gateway.protocols.centrifuge.commands import BadCommand, read_connect
from gateway.protocols.centrifuge.service import EMULATION, CentrifugeService, Emulated
from gateway.transport.connection import Connection
from gateway.transport.exchange import HttpEndpoints, HttpExchange
from gateway.transport.http_stream import HttpStreamConnection
from gateway.transport.upgrade import Upgrade
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.json_values import read_json
from shared.web.query import read_query

JSON, PROTOBUF = "centrifuge-json", "centrifuge-protobuf"

_STREAM_HEADERS = (
    (b"cache-control", b"private, no-cache, no-store, must-revalidate, max-age=0"),
    (b"x-accel-buffering", b"no"),
)
_SSE_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), *_STREAM_HEADERS)
_LINES_HEADERS = ((b"content-type", b"application/json"), *_STREAM_HEADERS)
_FIRST_OF_SSE = b"\n"
"""So that the head is passed on at once. No CR LF: eventsource 2 loses an event that it reads
together with one."""


def websocket_endpoints(
    service: CentrifugeService,
) -> Mapping[str, Callable[[Upgrade], None]]:
    return {
        "/connection/websocket": partial(_websocket, service),
        "/connection/uni_websocket": partial(_uni_websocket, service),
    }


def http_endpoints(service: CentrifugeService) -> HttpEndpoints:
    sse = partial(_sse, service, SSE)
    uni_sse = partial(_sse, service, UNI_SSE)
    return {
        "/connection/sse": {"GET": sse, "POST": sse},
        "/connection/http_stream": {"POST": partial(_http_stream, service, HTTP_STREAM)},
        "/connection/uni_sse": {"GET": uni_sse, "POST": uni_sse},
        "/connection/uni_http_stream": {"POST": partial(_http_stream, service, UNI_HTTP_STREAM)},
        "/emulation": {"POST": partial(_emulate, service)},
    }


def _websocket(service: CentrifugeService, upgrade: Upgrade) -> None:
    """A client that speaks JSON; one that speaks Protobuf is told no."""
    request = upgrade.request
    offered = request.subprotocols
    query = read_query(request.query)
    is_protobuf = PROTOBUF in offered or "protobuf" in (
        query.get("cf_protocol"), query.get("format")
    )  # fmt: skip
    chosen = next((each for each in offered if each in (JSON, PROTOBUF)), None)
    with suppress(ConnectionResetError):  # it went away in its own handshake
        client = upgrade.accept(_client(service, WEBSOCKET, upgrade), subprotocol=chosen)
        client.open()
        if is_protobuf:
            client.connection.close(codes.BAD_REQUEST)


def _uni_websocket(service: CentrifugeService, upgrade: Upgrade) -> None:
    """The first message is the request to connect, if the URL has none."""
    with suppress(ConnectionResetError):
        client = upgrade.accept(_client(service, UNI_WEBSOCKET, upgrade))
        client.name_session()
        client.open()
        asked = read_query(upgrade.request.query).get("cf_connect")
        if asked and client.connection.is_open:
            isolate_failure(client.connection, partial(client.received, asked))


def _sse(service: CentrifugeService, codec: Codec, exchange: HttpExchange) -> None:
    request = exchange.request
    asked = (
        request.body.decode(errors="replace")
        if request.method == "POST"
        else read_query(request.query).get("cf_connect", "")
    )
    _stream(service, codec, exchange, asked, _SSE_HEADERS, first=_FIRST_OF_SSE)


def _http_stream(service: CentrifugeService, codec: Codec, exchange: HttpExchange) -> None:
    asked = exchange.request.body.decode(errors="replace")
    _stream(service, codec, exchange, asked, _LINES_HEADERS)


def _stream(
    service: CentrifugeService,
    codec: Codec,
    exchange: HttpExchange,
    asked: str,
    headers: tuple[tuple[bytes, bytes], ...],
    *,
    first: bytes = b"",
) -> None:
    if not asked or (codec.is_unidirectional and not _can_connect(asked)):
        exchange.respond(HTTPStatus.BAD_REQUEST)
        return
    with suppress(ConnectionResetError):
        client = exchange.accept_stream(
            _client(service, codec, exchange),
            headers,
            first=first,
            sends_pongs=not codec.is_unidirectional,
        )
        assert isinstance(client.connection, HttpStreamConnection)
        client.name_session()
        client.open()
        client.connection.feed(asked)


def _can_connect(asked: str) -> bool:
    """Whether a client can begin so that says nothing else."""
    try:
        read_connect(asked)
    except BadCommand:
        return False
    return True


def _emulate(service: CentrifugeService, exchange: HttpExchange) -> None:
    """Commands of a client whose connection is a stream, on this gateway or on another."""
    try:
        asked = read_json(exchange.request.body)
        session, node, data = asked["session"], asked["node"], asked["data"]
    except (ValueError, KeyError, TypeError):
        exchange.respond(HTTPStatus.BAD_REQUEST)
        return
    if not all(isinstance(each, str) for each in (session, node, data)):
        exchange.respond(HTTPStatus.BAD_REQUEST)
    elif node == service.cluster.node:
        _answer_emulated(exchange, service.feed(Emulated(session=session, data=data)))
    else:
        exchange.start(_forward(service, exchange, node, {"session": session, "data": data}))


async def _forward(
    service: CentrifugeService, exchange: HttpExchange, node: str, asked: Mapping[str, str]
) -> None:
    try:
        is_taken = await service.cluster.ask(node, EMULATION, asked)
    except NoSuchNode:
        is_taken = False
    except Unavailable:  # it may have them or not: the client has to come back
        exchange.respond(HTTPStatus.SERVICE_UNAVAILABLE)
        return
    _answer_emulated(exchange, is_taken is True)


def _answer_emulated(exchange: HttpExchange, is_taken: bool) -> None:
    """Whoever is told 404 connects anew."""
    exchange.respond(HTTPStatus.NO_CONTENT if is_taken else HTTPStatus.NOT_FOUND)


def _client(
    service: CentrifugeService, codec: Codec, asked: Upgrade | HttpExchange
) -> Callable[[Connection], CentrifugeClient]:
    address = asked.client_host
    headers = service.proxies.headers.of_request(asked.request.headers)
    return lambda connection: CentrifugeClient(
        connection,
        service,
        DEFLATED[codec] if connection.deflates else codec,
        headers,
        address=address,
    )
