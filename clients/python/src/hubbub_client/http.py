"""Carries out the steps of `exchange` over HTTP, asynchronously or not."""

import asyncio
import os
import re
import time
from asyncio import AbstractEventLoop
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from hubbub_client.exchange import (
    NOT_IN_TIME,
    NoResponse,
    Outcome,
    Pause,
    Request,
    Response,
    Steps,
    Unreadable,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""No gateway answers as much: a page of the longest publications has half of it."""

_API_KEY = re.compile(r"[ -~]+")
_ENDLESS = Unreadable(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


class AsyncHttp:
    """A pool of connections for each event loop: one loop can't use what another has opened."""

    def __init__(
        self, url: str, api_key: str, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """
        Args:
            transport: Instead of the pool.

        Raises:
            ValueError: the URL is none of HTTP, or the key can't stand in a header.
        """
        self._options = _options(url, api_key) | {"transport": transport}
        self._clients: dict[AbstractEventLoop, httpx2.AsyncClient] = {}

    async def run(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def close(self) -> None:
        """For the event loop that runs; it can be used no more there."""
        await self._client_of_this_loop().aclose()

    def _client_of_this_loop(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for other in list(self._clients):  # a copy: other threads do the same with theirs
                if other.is_closed():
                    self._clients.pop(other, None)
            client = self._clients[loop] = httpx2.AsyncClient(**self._options)
        return client

    async def _send(self, request: Request) -> Outcome:
        method, body, seconds = request
        client = self._client_of_this_loop()
        received = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                client.stream("POST", method, content=body, timeout=seconds) as response,
            ):
                async for piece in response.aiter_bytes():
                    received += piece
                    if len(received) > MAX_ANSWER_BYTES:
                        return _ENDLESS
        except (TimeoutError, httpx2.TimeoutException):
            return NOT_IN_TIME
        except httpx2.TransportError as error:
            return NoResponse(_reason(error))
        except httpx2.DecodingError as error:
            return Unreadable(_reason(error))
        return Response(response.status_code, response.headers, bytes(received))


class SyncHttp:
    """The same for code that does not await. Threads may share it, and processes that fork.

    An attempt may last longer than it should: its timeout is of each single step, such as to
    connect or to send, and the headers of an answer may come piece by piece.
    """

    def __init__(
        self, url: str, api_key: str, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._options = _options(url, api_key) | {"transport": transport}
        self._client = httpx2.Client(**self._options)
        self._process = os.getpid()

    def run(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def close(self) -> None:
        self._client.close()

    def _client_of_this_process(self) -> httpx2.Client:
        """A new one after a fork: on one connection two would read each other's answers."""
        if self._process != os.getpid():
            self._client = httpx2.Client(**self._options)
            self._process = os.getpid()
        return self._client

    def _send(self, request: Request) -> Outcome:
        method, body, seconds = request
        ends_at = time.monotonic() + seconds
        try:
            client = self._client_of_this_process()
            with client.stream("POST", method, content=body, timeout=seconds) as response:
                received = bytearray()
                for piece in response.iter_bytes():
                    received += piece
                    if len(received) > MAX_ANSWER_BYTES:
                        return _ENDLESS
                    if time.monotonic() > ends_at:
                        return NoResponse("the answer came too slowly")
        except httpx2.TimeoutException:
            return NOT_IN_TIME
        except httpx2.TransportError as error:
            return NoResponse(_reason(error))
        except httpx2.DecodingError as error:
            return Unreadable(_reason(error))
        return Response(response.status_code, response.headers, bytes(received))


def is_url(value: object) -> bool:
    """Whether it is one of HTTP."""
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
        has_port = parts.port != 0  # it raises if that is no number, or too large
        httpx2.URL(value)
    except (ValueError, httpx2.InvalidURL):
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port


def is_api_key(value: object) -> bool:
    """Whether a header can have it. A file that it was read from may end with a newline."""
    return isinstance(value, str) and _API_KEY.fullmatch(value.strip()) is not None


def _options(url: str, api_key: str) -> dict[str, Any]:
    if not is_url(url):
        raise ValueError("not a URL of HTTP, such as http://127.0.0.1:8000")
    if not is_api_key(api_key):
        raise ValueError("the API key is empty, or has what can't stand in a header")
    return {
        # Some write it with the path, as other clients of this API want it.
        "base_url": f"{url.rstrip('/').removesuffix('/api')}/api/",
        "headers": {"X-API-Key": api_key.strip(), "Content-Type": "application/json"},
        # Certificates take 60 ms to load: once for all clients, and HTTP needs none.
        "verify": httpx2.create_ssl_context() if urlsplit(url).scheme == "https" else False,
    }


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.LocalProtocolError):
        return type(error).__name__  # its text may quote the header with the key
    return f"{type(error).__name__}: {error}".removesuffix(": ")
