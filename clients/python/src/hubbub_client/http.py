"""Carries out the steps of `exchange` over HTTP, asynchronously or not."""

import asyncio
import os
import time
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from hubbub_client.exchange import NoResponse, Outcome, Pause, Request, Response, Steps

T = TypeVar("T")


class AsyncHttp:
    """A pool of connections."""

    def __init__(
        self, url: str, api_key: str, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """
        Args:
            transport: Instead of the pool.

        Raises:
            ValueError: the URL is none of HTTP.
        """
        self._client = httpx2.AsyncClient(**_options(url, api_key), transport=transport)

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
        await self._client.aclose()

    async def _send(self, request: Request) -> Outcome:
        method, body, seconds = request
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.post(method, content=body, timeout=seconds)
        except (httpx2.TransportError, TimeoutError) as error:
            return NoResponse(_reason(error))
        return Response(response.status_code, response.headers, response.content)


class SyncHttp:
    """The same for code that does not await. Threads may share it, and processes that fork."""

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
        ends_at = time.monotonic() + seconds  # the timeout is of each single piece
        try:
            client = self._client_of_this_process()
            with client.stream("POST", method, content=body, timeout=seconds) as response:
                received = bytearray()
                for piece in response.iter_bytes():
                    received += piece
                    if time.monotonic() > ends_at:
                        return NoResponse("the answer came too slowly")
        except httpx2.TransportError as error:
            return NoResponse(_reason(error))
        return Response(response.status_code, response.headers, bytes(received))


def _options(url: str, api_key: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a URL of HTTP, such as http://127.0.0.1:8000")
    return {
        # Some write it with the path, as other clients of this API want it.
        "base_url": f"{url.rstrip('/').removesuffix('/api')}/api/",
        "headers": {"X-API-Key": api_key, "Content-Type": "application/json"},
        "verify": parts.scheme == "https",  # certificates take 60 ms to load; HTTP needs none
    }


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
