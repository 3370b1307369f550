"""Addresses, keys and answers as nobody would have them."""

import asyncio
import gc
import gzip
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import httpx2
import pytest

from clients.python.tests.conftest import API_KEY, InThread
from hubbub_client import Hubbub, Limits, SyncHubbub, Unavailable, UnexpectedAnswer
from hubbub_client.http import MAX_ANSWER_BYTES
from tests.fixtures.tcp import a_tcp_server

URL = "http://127.0.0.1:8000"
SECRET_KEY = "a-key-that-nobody-else-may-see"
PATIENT = Limits(deadline_seconds=20, attempt_seconds=20)

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize("client", [Hubbub, SyncHubbub])
@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000", "ftp://h", "http://", None),
        *("http://h:abc", "http://h:99999", "http://h:0", "http://["),
    ],
)
def test_what_is_no_address_is_refused(client: type[Hubbub], url: str) -> None:
    with pytest.raises(ValueError, match="not a URL of HTTP"):
        client(url, API_KEY)


@pytest.mark.parametrize("client", [Hubbub, SyncHubbub])
@pytest.mark.parametrize("key", [f"{SECRET_KEY}\nX: 1", f"{SECRET_KEY}é", "", " \n", None])
def test_a_key_that_no_header_can_have_is_refused_and_not_shown(
    client: type[Hubbub], key: str
) -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        client(URL, key)

    assert SECRET_KEY not in str(refused.value)


def test_a_key_may_be_what_a_file_says() -> None:
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["X-API-Key"])
        return httpx2.Response(200, json={"result": {"offset": 1, "epoch": "e"}})

    with SyncHubbub(URL, f"{SECRET_KEY}\n", transport=httpx2.MockTransport(answer)) as hubbub:
        hubbub.publish("chat:a", 1)

    assert keys == [SECRET_KEY]


def test_what_is_wrong_with_a_request_is_told_without_its_headers() -> None:
    def quoting(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.LocalProtocolError(f"Illegal header value {request.headers['X-API-Key']}")

    limits, transport = Limits(deadline_seconds=0.01), httpx2.MockTransport(quoting)
    hubbub = SyncHubbub(URL, SECRET_KEY, limits=limits, transport=transport)

    with hubbub, pytest.raises(Unavailable, match=r"^LocalProtocolError$"):
        hubbub.publish("chat:a", 1)


async def in_no_encoding(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")


async def too_deep(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000)


async def too_long(writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(b" " * (MAX_ANSWER_BYTES + 1), compresslevel=1)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


@asynccontextmanager
async def answering(answer: Answer) -> AsyncGenerator[str]:
    """The URL of a server that answers each request so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            await answer(writer)
            await writer.drain()
        writer.close()

    async with a_tcp_server(serve) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("answer", [in_no_encoding, too_deep, too_long])
@pytest.mark.parametrize("client", ["awaited", "synchronous"])
async def test_what_no_gateway_answers_is_an_error_of_ours(answer: Answer, client: str) -> None:
    async with answering(answer) as url:
        if client == "awaited":
            async with Hubbub(url, API_KEY, limits=PATIENT) as hubbub:
                with pytest.raises(UnexpectedAnswer):
                    await hubbub.publish("chat:a", 1)
        else:
            with SyncHubbub(url, API_KEY, limits=PATIENT) as synchronous:
                in_thread = cast(Any, InThread(synchronous))
                with pytest.raises(UnexpectedAnswer):
                    await in_thread.publish("chat:a", 1)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # a loop that ends closes nothing
async def test_one_client_serves_one_event_loop_after_the_other(url: str) -> None:
    channel = f"chat:{secrets.token_hex(6)}"
    hubbub = Hubbub(url, API_KEY)

    def publish_in_loops() -> list[int]:
        return [asyncio.run(hubbub.publish(channel, number)).offset for number in range(3)]

    offsets = await asyncio.to_thread(publish_in_loops)

    stored = (await hubbub.history(channel)).publications
    assert [each.offset for each in stored] == offsets
    await hubbub.close()
    gc.collect()  # what it warns of is of this test
