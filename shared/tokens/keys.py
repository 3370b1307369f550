"""Where the keys that we trust come from: known from the start, or fetched and kept fresh."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import httpx2
import structlog

from hubbub_client.urls import without_passwords
from shared.runtime.supervision import Loop, Supervisor
from shared.tokens.jwk import BadKeySet, TrustedKey, read_jwks
from shared.web.certificates import certificates

log = structlog.get_logger(__name__)


class KeySource(Protocol):
    """Where the keys of one issuer are found."""

    @property
    def are_named(self) -> bool:
        """Whether its tokens have to name the key that they are signed with."""

    @property
    def known(self) -> bool:
        """Whether any key is known, so that a token can be judged at all."""

    @property
    def trouble(self) -> str | None:
        """What went wrong the last time that the issuer was asked."""

    def find(self, kid: str) -> Sequence[TrustedKey]:
        """What the issuer calls ``kid``: one key, unless it uses a name twice."""

    def trusts(self, thumbprint: str) -> bool:
        """Whether the key is one of ours still."""

    async def look_again(self) -> None:
        """Ask the issuer anew, unless that was done a moment ago."""


class FixedKeys:
    """Keys that are known from the start, and named by the tokens."""

    are_named = True
    trouble = None

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._keys: dict[str, tuple[TrustedKey, ...]] = {}
        for key in keys:
            self._keys[key.kid] = (*self._keys.get(key.kid, ()), key)
        self._thumbprints = frozenset(
            key.thumbprint for of_one in self._keys.values() for key in of_one
        )

    @property
    def known(self) -> bool:
        return bool(self._keys)

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return self._keys.get(kid, ())

    def trusts(self, thumbprint: str) -> bool:
        return thumbprint in self._thumbprints

    async def look_again(self) -> None:
        """There is nobody to ask."""


class UnnamedKeys(FixedKeys):
    """One key, or the few of a rotation, each of which may have signed any token."""

    are_named = False

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._all = tuple(keys)
        super().__init__(self._all)

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return self._all


class JwksKeys:
    """Keys from an issuer's URL; the last good set stays in force while the issuer is away."""

    are_named = True

    def __init__(
        self,
        url: str,
        client: httpx2.AsyncClient,
        *,
        algorithms: Collection[str] = ("EdDSA",),
        refresh_seconds: float = 300.0,
        retry_seconds: float = 1.0,
        look_again_seconds: float = 5.0,
        fetch_seconds: float = 5.0,
        max_bytes: int = 64 * 1024,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            url: Of the JWK set: configuration, never anything that a token says.
            client: Asks for it. Follows no redirect: only ``url`` is known to be the issuer's.
            algorithms: That its keys are for; others are passed over.
            look_again_seconds: Strangers' tokens may make us ask the issuer this often.
        """
        self._url = url
        self._shown = without_passwords(url)
        self._algorithms = algorithms
        self._client = client
        self._refresh_seconds = refresh_seconds
        self._retry_seconds = retry_seconds
        self._look_again_seconds = look_again_seconds
        self._fetch_seconds = fetch_seconds
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._keys = FixedKeys(())
        self.trouble: str | None = None
        self._looking = asyncio.Lock()
        self._next_look = monotonic()

    @property
    def known(self) -> bool:
        return self._keys.known

    def find(self, kid: str) -> Sequence[TrustedKey]:
        return self._keys.find(kid)

    def trusts(self, thumbprint: str) -> bool:
        return self._keys.trusts(thumbprint)

    async def look_again(self) -> None:
        async with self._looking:  # whoever waited here finds what the first one brought
            if self._monotonic() >= self._next_look:
                await self._fetch()

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            async with self._looking:
                fetched = await self._fetch()
            await asyncio.sleep(self._refresh_seconds if fetched else self._retry_seconds)

    async def _fetch(self) -> bool:
        try:
            async with asyncio.timeout(self._fetch_seconds):
                keys = read_jwks(await self._read(), algorithms=self._algorithms)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, BadKeySet) as error:
            log.warning("keys_not_fetched", url=self._shown, reason=repr(error), known=self.known)
            self.trouble = f"{self._shown}: {error!r}"
            return False
        finally:  # not before: with an issuer that hangs, each who waited would ask anew
            self._next_look = self._monotonic() + self._look_again_seconds
        self._keys, self.trouble = FixedKeys(keys), None
        return True

    async def _read(self) -> bytes:
        # As it is: what is unpacked could be of any size.
        headers = {"Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if not response.is_success:  # `raise_for_status` would tell the URL, with a password
                raise BadKeySet(f"answered {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_bytes:
                    raise BadKeySet(f"over {self._max_bytes} bytes")
        return bytes(body)


@asynccontextmanager
async def connected_keys(
    url: str, *, algorithms: Collection[str] = ("EdDSA",), proxy: str | None = None
) -> AsyncGenerator[JwksKeys]:
    """The keys behind ``url``, for which nobody has asked yet.

    Without a ``proxy`` of ours they are asked for directly: the one that the environment names
    is for the internet, and the issuer is a neighbour as a rule.
    """
    # With a transport of its own the client asks the environment for certificates alone.
    transport = httpx2.AsyncHTTPTransport(verify=certificates(), proxy=proxy)
    async with httpx2.AsyncClient(transport=transport) as client:
        yield JwksKeys(url, client, algorithms=algorithms)


@asynccontextmanager
async def jwks_keys(
    url: str,
    supervisor: Supervisor,
    *,
    algorithms: Collection[str] = ("EdDSA",),
    proxy: str | None = None,
) -> AsyncGenerator[JwksKeys]:
    """The keys behind ``url``, kept fresh while inside; does not wait for the issuer."""
    async with (
        connected_keys(url, algorithms=algorithms, proxy=proxy) as keys,
        supervisor.running(Loop("keys", keys.run, is_vital=False)),
    ):
        yield keys
