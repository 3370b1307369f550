"""What the gateway reads from its environment about the application that it asks."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import NoDecode

from shared.runtime.settings import Bytes, Count, Seconds

EMULATED_PREFIX = "X-Emulated-"
"""Of the names under which the application sees the headers that a page made up."""

_STATIC = "HUBBUB_GATEWAY_PROXY_STATIC_HEADERS"
_SDK_SECONDS = 5.0
"""That the SDKs wait for the answer to a command."""
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t -~]*")
_NEVER_PASSED_ON = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length",
        "content-type", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding",
        "upgrade",
    }
)  # fmt: skip
"""They are about one connection or one body, and those to the application are others."""


def _is_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not a URL such as https://app.example.com/realtime/connect")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("a URL here has no user, password or fragment")
    return url


def _split(names: object) -> object:
    if isinstance(names, str):
        return tuple(name.strip() for name in names.split(",") if name.strip())
    return names


def _are_passed_on(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header's name")
        if name.lower() in _NEVER_PASSED_ON:
            raise ValueError(f"{name} is of the connection that it came on, and not passed on")
        if name.lower().startswith(EMULATED_PREFIX.lower()):
            raise ValueError(
                f"{name}: no request may have a header that stands for an emulated one"
            )
    return names


Url = Annotated[str, AfterValidator(_is_url)]
Names = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_are_passed_on)
]
"""Of headers, with commas between."""


class ProxySettings(BaseModel):
    """A part of `gateway.settings.GatewaySettings`."""

    model_config = ConfigDict(frozen=True)

    proxy_connect_url: Url | None = None
    """Of the application, which is asked who somebody is that brings no token."""
    proxy_refresh_url: Url | None = None
    """Of the application, which is asked whether such a client may stay when its time is over."""
    proxy_subscribe_url: Url | None = None
    """Of the application, which is asked who may subscribe in namespaces that say so."""
    proxy_publish_url: Url | None = None
    """Of the application, which is asked what may be published in namespaces that say so."""
    proxy_rpc_url: Url | None = None
    """Of the application, which answers what clients call."""
    rpc_over_bus: bool = False
    """Whether services on the bus answer first what clients call, on `rpc.<method>`."""
    proxy_timeout_seconds: Seconds = 3
    """For an answer of the application; the SDKs give a command 5 s."""
    proxy_refresh_retry_seconds: Seconds = 5
    """Between two questions whether a client may stay, while there is no answer; it may for 25 s
    more."""
    proxy_max_connects: Count = 200
    """Under way at a time in this process; with more, clients are told to come back later."""
    proxy_max_connects_per_address: Count = 50
    """The same of one address, see `max_connections_per_address`."""
    proxy_max_requests: Count = 200
    """Of clients that are connected, under way at a time; more are answered 111, try again."""
    proxy_max_requests_per_user: Count = 50
    """The same of one user, at this process."""
    proxy_max_reply_bytes: Bytes = 256 * 1024
    """Of one answer; a longer one counts as none."""
    proxy_headers: Names = ("Cookie", "Authorization", "Origin", "User-Agent", "X-Request-Id")
    """Of the request that a client connected with, which the application is shown."""
    proxy_emulated_headers: Names = ()
    """Of those that a page gives to the SDK, which the application is shown as `X-Emulated-…`."""
    proxy_static_headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Of every request to the application, as JSON: by a secret one it knows who asks."""

    @model_validator(mode="after")
    def _there_is_something_to_refresh(self) -> Self:
        if self.proxy_refresh_url is not None and self.proxy_connect_url is None:
            raise ValueError(
                "HUBBUB_GATEWAY_PROXY_REFRESH_URL is for those whom"
                " HUBBUB_GATEWAY_PROXY_CONNECT_URL let in"
            )
        return self

    @model_validator(mode="after")
    def _static_headers_stay(self) -> Self:
        shown = {name.lower() for name in self.proxy_headers}
        for name, value in self.proxy_static_headers.items():
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"{_STATIC}: {name!r} is no header")
            if name.lower().startswith(EMULATED_PREFIX.lower()):
                raise ValueError(f"{_STATIC}: {name} stands for an emulated one")
            if name.lower() in _NEVER_PASSED_ON:
                raise ValueError(f"{_STATIC}: {name} is not for us to say")
            if name.lower() in shown:
                raise ValueError(f"{_STATIC}: {name} is in HUBBUB_GATEWAY_PROXY_HEADERS, too")
        return self

    def proxy_warnings(self) -> Iterator[str]:
        """What may be a mistake."""
        trusting = (self.proxy_subscribe_url, self.proxy_publish_url, self.proxy_rpc_url)
        if (
            any((*trusting, self.proxy_connect_url, self.rpc_over_bus))
            and self.proxy_timeout_seconds >= _SDK_SECONDS
        ):
            yield (
                f"HUBBUB_GATEWAY_PROXY_TIMEOUT_SECONDS is {self.proxy_timeout_seconds:g}: the SDKs"
                f" give up after {_SDK_SECONDS:g} s"
            )
        if any(trusting) and not self.proxy_static_headers:
            yield (
                f"{_STATIC} is empty: the application has to know in some"
                " other way that it is a gateway that tells it the user"
            )
