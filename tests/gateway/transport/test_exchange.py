"""Requests over HTTP at paths of our own: how each of them is answered."""

import asyncio

from tests.gateway.serving import until
from tests.gateway.transport.exchanges import a_request, a_stream_gateway, event


async def test_a_request_is_answered_and_the_next_one_on_the_same_connection_too() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for body in (b"one", b"two"):
            await peer.send(a_request(b"/echo?a=b", b"POST", b"X-A: c\r\n", body))
            assert (await peer.until(body)).startswith(b"HTTP/1.1 200 OK\r\n")
        request = gateway.endpoints.exchanges[0].request
        assert request.method == "POST"
        assert request.path == "/echo"
        assert request.query == b"a=b"
        assert (b"x-a", b"c") in request.headers
        assert request.body == b"one"
        assert gateway.endpoints.exchanges[0].client_host == "127.0.0.1"


async def test_other_paths_are_the_applications() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/", b"/echo/", b"/Echo", b"/other?/echo"):
            await peer.send(a_request(target))
            assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 299")


async def test_an_answer_may_come_later_and_requests_behind_it_wait() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/later", b"POST") + a_request(b"/echo", b"POST", body=b"x"))
        await until(lambda: len(gateway.endpoints.exchanges) == 1)
        await asyncio.sleep(0.05)
        assert len(gateway.endpoints.exchanges) == 1
        gateway.endpoints.let.set()
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 No Content\r\n")
        assert (await peer.until(b"\r\n\r\nx")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_answer_that_does_not_come_in_time_is_504() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        gateway.endpoints.later_seconds = 0.05
        await peer.send(a_request(b"/later", b"POST"))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")


async def test_a_stream_may_open_later() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/stream%20later"))
        gateway.endpoints.let.set()
        await peer.until(event(b"hello "))


async def test_an_endpoint_that_fails_is_answered_500() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/fails", b"/fails?later", b"/silent"):
            await peer.send(a_request(target))
            assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")


async def test_a_page_of_the_same_machine_may_ask_and_read() -> None:
    origin = b"Origin: http://localhost:5173\r\n"
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/echo", b"/stream"):
            await peer.send(a_request(target, more=origin).replace(b"Host: x", b"Host: localhost"))
            head = await peer.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"access-control-allow-origin: http://localhost:5173\r\n" in head
            assert b"access-control-allow-credentials: true\r\n" in head
            assert b"vary: Origin\r\n" in head


async def test_a_page_from_elsewhere_may_not_ask() -> None:
    origin = b"Origin: https://evil.example\r\n"
    requests = [
        a_request(b"/echo", more=origin),
        a_request(b"/later", b"POST", more=origin),
        a_request(b"/stream", b"OPTIONS", more=origin),
        a_request(b"/stream", more=origin),
    ]
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for request in requests:
            await peer.send(request)
            head = await peer.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 403 ")
            assert b"access-control" not in head
        assert gateway.endpoints.exchanges == []


async def test_a_browser_may_ask_before_it_asks() -> None:
    more = (
        b"Origin: https://x\r\nAccess-Control-Request-Method: POST\r\n"
        b"Access-Control-Request-Headers: content-type, x-a\r\n"
    )
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/later", b"OPTIONS", more))
        head = await peer.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
        for line in (
            b"allow: POST, OPTIONS",
            b"access-control-allow-methods: POST, OPTIONS",
            b"access-control-allow-headers: content-type, x-a",
            b"access-control-allow-origin: https://x",
            b"access-control-allow-credentials: true",
            b"access-control-max-age: 300",
        ):
            assert b"\r\n" + line + b"\r\n" in head
        await peer.send(a_request(b"/later", b"OPTIONS"))
        assert b"access-control-allow-origin" not in await peer.until(b"\r\n\r\n")
        await peer.send(a_request(b"/later", b"GET"))
        assert b"\r\nallow: POST, OPTIONS\r\n" in await peer.until(b"\r\n\r\n")
