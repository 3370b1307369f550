"""One request to the application over HTTP: bounded in time and in what is read of the answer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx2

from gateway.proxies.errors import ApplicationAway
from gateway.proxies.headers import Headers
from shared.web.certificates import certificates

_KEEP_IDLE_SECONDS = 4.0
"""Below the 5 s after which common servers give an idle connection up."""
_OUR_HEADERS: Headers = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),  # what is unpacked could be of any size
)


class HttpClient:
    """Posts JSON. Follows no redirect, and keeps no cookie of one user's answer for the next."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        headers: Headers,
        timeout_seconds: float,
        max_reply_bytes: int,
    ) -> None:
        """
        Args:
            transport: Not a client, which keeps cookies.
            headers: Of every request.
        """
        self._transport = transport
        self._headers = (*_OUR_HEADERS, *headers)
        self._timeout_seconds = timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._urls: dict[str, httpx2.URL] = {}
        """Parsed once: that takes a quarter of a question's time."""

    async def post(self, url: str, body: bytes, headers: Headers) -> bytes:
        """The body of the answer.

        Args:
            url: One of a few.
            headers: Of this request, none of them one of ours.

        Raises:
            ApplicationAway: there is none in time, or it is too long, or not a 200.
        """
        parsed = self._urls.get(url)
        if parsed is None:
            parsed = self._urls[url] = httpx2.URL(url)
        request = httpx2.Request("POST", parsed, headers=[*self._headers, *headers], content=body)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(request)
        except TimeoutError:
            raise ApplicationAway(f"no answer within {self._timeout_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise ApplicationAway(repr(error)) from None

    async def _exchange(self, request: httpx2.Request) -> bytes:
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code != HTTPStatus.OK:
                raise ApplicationAway(f"answered {response.status_code}, and not 200")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_reply_bytes:
                    raise ApplicationAway(f"answered more than {self._max_reply_bytes} bytes")
        finally:
            await response.aclose()
        return bytes(body)


@asynccontextmanager
async def http_client(
    *, headers: Headers, timeout_seconds: float, max_reply_bytes: int, max_connections: int
) -> AsyncGenerator[HttpClient]:
    """One whose connections are kept for the next request; the environment's proxies are not ours.

    Args:
        max_connections: At least as many as requests are under way at a time.
    """
    limits = httpx2.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=_KEEP_IDLE_SECONDS,
    )
    # With a transport of its own the environment is asked for certificates alone.
    async with httpx2.AsyncHTTPTransport(verify=certificates(), limits=limits) as transport:
        yield HttpClient(
            transport,
            headers=headers,
            timeout_seconds=timeout_seconds,
            max_reply_bytes=max_reply_bytes,
        )
