"""The questions that the application is asked, each with what it takes and what comes of it."""

import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import pydantic_core

from gateway.metrics import GatewayMetrics
from gateway.proxies.bus_client import BusClient
from gateway.proxies.errors import (
    ApplicationAway,
    ApplicationDisconnects,
    ApplicationRefuses,
    BadMethod,
    CannotBeAsked,
    FailureLog,
    NobodyServes,
    TooManyAsked,
)
from gateway.proxies.headers import NO_HEADERS, HeaderRules, Headers
from gateway.proxies.http_client import HttpClient, http_client
from gateway.proxies.limits import ProxyLimits, UnderWay
from gateway.proxies.replies import (
    Admission,
    Approved,
    BadReply,
    Permission,
    Stay,
    read_admission,
    read_approved,
    read_data,
    read_permission,
    read_reply,
    read_stay,
)
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.contracts.json_values import RawJson
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.nats.client import Bus
from shared.web.addresses import network_of

T = TypeVar("T")

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """Where to ask over HTTP; what has none isn't asked there."""

    connect: str | None = None
    refresh: str | None = None
    subscribe: str | None = None
    publish: str | None = None
    rpc: str | None = None

    @property
    def show_headers_later(self) -> bool:
        """Whether anything is asked once a client is connected."""
        return any((self.refresh, self.subscribe, self.publish, self.rpc))


class Caller(NamedTuple):
    """On behalf of which connection something is asked."""

    client: ConnectionId
    transport: str
    user_id: UserId | None = None
    """None while nobody knows."""
    meta: RawJson | None = None
    headers: Headers = NO_HEADERS

    def body(self, **asked: Any) -> bytes:
        """What is asked, as JSON; what is empty is left out.

        In ASCII: half a surrogate pair, which clients may send, passes as it came.

        Raises:
            CannotBeAsked: no JSON can be made of it.
        """
        said: dict[str, Any] = {
            "client": self.client,
            "transport": self.transport,
            "protocol": "json",
            "encoding": "json",
        }
        if self.user_id is not None:
            said["user"] = self.user_id
        if self.meta is not None:
            asked["meta"] = pydantic_core.from_json(self.meta)
        said |= {name: value for name, value in asked.items() if value not in (None, "", [])}
        try:
            return json.dumps(said, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise CannotBeAsked(str(error)) from None


class Proxies:
    """Asks the application. Nothing is asked before `running` is entered."""

    def __init__(
        self,
        urls: Urls,
        limits: ProxyLimits,
        metrics: GatewayMetrics,
        *,
        bus: Bus | None,
        headers: HeaderRules,
        static_headers: Headers,
    ) -> None:
        """
        Args:
            bus: Where services are called; None for nowhere.
            headers: What the application is shown of the client's.
            static_headers: Ours, in every request over HTTP.
        """
        self.headers = headers
        self.limits = limits
        self.urls = urls
        self._metrics = metrics
        self._static_headers = static_headers
        self._connects = UnderWay(
            at_most=limits.max_connects, at_most_each=limits.max_connects_per_address
        )
        self._requests = UnderWay(
            at_most=limits.max_requests, at_most_each=limits.max_requests_per_user
        )
        self._failures = FailureLog()
        self._http: HttpClient
        self._bus: BusClient | None = None
        if bus is not None:
            self._bus = BusClient(
                bus,
                timeout_seconds=limits.timeout_seconds,
                max_reply_bytes=limits.max_reply_bytes,
            )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep connections to the application, during the body."""
        limits = self.limits
        if self.urls == Urls():  # what is never used takes its time to make, for certificates
            yield
            return
        async with http_client(
            headers=self._static_headers,
            timeout_seconds=limits.timeout_seconds,
            max_reply_bytes=limits.max_reply_bytes,
            max_connections=limits.max_connects + limits.max_requests,
        ) as self._http:
            yield

    @property
    def asks_connect(self) -> bool:
        """Whether it says who somebody is that brings no token."""
        return self.urls.connect is not None

    @property
    def asks_refresh(self) -> bool:
        """Whether it says if somebody may stay whom it let in."""
        return self.urls.refresh is not None

    @property
    def takes_calls(self) -> bool:
        """Whether anybody answers what clients call."""
        return self.urls.rpc is not None or self._bus is not None

    async def connect(
        self,
        caller: Caller,
        *,
        address: str | None,
        name: str,
        version: str,
        data: Any,
        channels: Sequence[str],
    ) -> Admission | None:
        """Who it is that connects; None if the application knows of nobody.

        Args:
            address: Where the client is; None if that can't be known.
            channels: That it asks for at once.

        Raises:
            ApplicationRefuses, ApplicationDisconnects: it may not.
            CannotBeAsked: it says what can't be passed on; here and below.
            ApplicationAway, TooManyAsked: it may come again later.
        """
        assert self.urls.connect is not None
        whose = None if address is None else network_of(address) or address
        body = caller.body(name=name, version=version, data=data, channels=list(channels))
        asked_at = our_clock()  # what is revoked until the answer covers it
        with self._asking("connect"), self._connects.one_more(whose):
            result = read_reply(await self._http.post(self.urls.connect, body, caller.headers))
            return None if result is None else read_admission(result, asked_at)

    async def refresh(self, caller: Caller) -> Stay | None:
        """Until when the caller may stay; None for no longer.

        Raises:
            ApplicationRefuses, ApplicationDisconnects: no longer.
            ApplicationAway, TooManyAsked: nobody knows now.
        """
        read = partial(read_stay, now=our_clock())
        return await self._ask("refresh", self.urls.refresh, caller, read)

    async def subscribe(self, caller: Caller, channel: ChannelName, data: Any) -> Permission:
        """Whether the caller may listen to the channel.

        Raises:
            ApplicationRefuses, ApplicationDisconnects: it may not.
            ApplicationAway, TooManyAsked: it may ask again later.
        """
        asked = {"channel": channel, "data": data}
        return await self._ask("subscribe", self.urls.subscribe, caller, read_permission, asked)

    async def publish(self, caller: Caller, channel: ChannelName, data: Any) -> Approved:
        """What the caller may publish in the channel.

        Raises:
            ApplicationRefuses, ApplicationDisconnects: nothing.
            ApplicationAway, TooManyAsked: it may ask again later.
        """
        asked = {"channel": channel, "data": data}
        return await self._ask("publish", self.urls.publish, caller, read_approved, asked)

    async def _ask(
        self,
        kind: str,
        url: str | None,
        caller: Caller,
        read: Callable[[Mapping[str, Any]], T],
        asked: Mapping[str, Any] = NOTHING,
    ) -> T:
        """Ask over HTTP for somebody who is connected; return what ``read`` makes of the result."""
        assert url is not None
        body = caller.body(**asked)
        with self._asking(kind), self._one_more(caller):
            return read(_result(await self._http.post(url, body, caller.headers)))

    async def rpc(self, caller: Caller, method: str, data: Any) -> RawJson | None:
        """What a service on the bus answers, or else the application.

        Raises:
            ApplicationRefuses, ApplicationDisconnects: it says so.
            BadMethod: nothing on the bus can be called so.
            NobodyServes: nothing on the bus is.
            ApplicationAway, TooManyAsked: the client may call again later.
        """
        body = caller.body(method=method, data=data)
        with self._asking("rpc"), self._one_more(caller):
            return read_data(_result(await self._call(caller, method, body)))

    async def _call(self, caller: Caller, method: str, body: bytes) -> bytes:
        url = self.urls.rpc
        if self._bus is not None:
            try:
                return await self._bus.call(method, body)
            except (BadMethod, NobodyServes):
                if url is None:
                    raise
        assert url is not None
        return await self._http.post(url, body, caller.headers)

    def _one_more(self, caller: Caller) -> AbstractContextManager[None]:
        return self._requests.one_more(caller.user_id or caller.client)

    @contextmanager
    def _asking(self, kind: str) -> Generator[None]:
        began_at, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "answered"
        except TooManyAsked:
            outcome = "too_many"
            raise
        except (ApplicationRefuses, ApplicationDisconnects):
            outcome = "refused"
            raise
        except (BadMethod, NobodyServes):
            outcome = "not_served"
            raise
        except BadReply as error:
            self._failures.tell(kind, f"its answer can't be read: {error}")
            raise ApplicationAway("its answer can't be read") from None
        except Unavailable as error:
            self._failures.tell(kind, str(error))
            raise
        finally:
            self._metrics.asked(kind, outcome, time.monotonic() - began_at)


def _result(payload: bytes) -> Mapping[str, Any]:
    """
    Raises:
        BadReply: there is none. Saying nothing is not saying yes.
        ApplicationRefuses, ApplicationDisconnects: it says so.
    """
    result = read_reply(payload)
    if result is None:
        raise BadReply("neither a result nor an error")
    return result
