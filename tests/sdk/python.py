"""The SDK for Python, in the test's own process."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import centrifuge

from tests.gateway.serving import DEADLINE_SECONDS
from tests.sdk.clients import Event, SdkClient, SdkError

QUICK = {"min_reconnect_delay": 0.02, "max_reconnect_delay": 0.2}
QUICK_AGAIN = {"min_resubscribe_delay": 0.02, "max_resubscribe_delay": 0.2}


class ThrownByHandler(Exception):
    """By that of publications."""


class PyClient(SdkClient):
    """One `Client` object."""

    def __init__(self, url: str, *, throws: int = 0, **options: Any) -> None:
        super().__init__()
        self._throws = throws
        self._happened = asyncio.Event()
        self._own = centrifuge.Client(
            f"{url.replace('http', 'ws')}/connection/websocket",
            events=_Handlers(self._take),
            proxy=None,
            **QUICK,
            **self._in_python(options, channel=None),
        )

    async def call(self, method: str, *args: Any, channel: str | None = None) -> Any:
        if method == "newSubscription":
            assert channel is not None
            return self._new_subscription(channel, *args)
        target = self._own if channel is None else self._own.get_subscription(channel)
        named: dict[str, Any] = {}
        if method == "history":
            channel, named = args
            args = (channel,)
            if "since" in named:
                named = named | {"since": centrifuge.StreamPosition(**named["since"])}
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return _in_js(await getattr(target, _snake(method))(*args, **named))
        except centrifuge.ReplyError as error:
            raise SdkError(error.code, error.message) from error
        except centrifuge.ClientDisconnectedError as error:
            raise SdkError(None, str(error)) from error

    async def _more_events(self) -> None:
        self._happened.clear()
        await self._happened.wait()

    def _new_subscription(self, channel: str, options: dict[str, Any]) -> None:
        handlers = _Handlers(self._take, channel)
        options = self._in_python(options, channel)
        self._own.new_subscription(channel, events=handlers, **QUICK_AGAIN, **options)

    def _in_python(self, options: dict[str, Any], channel: str | None) -> dict[str, Any]:
        options = {_snake(name): value for name, value in options.items()}
        if "cookie" in options:
            options["headers"] = {"Cookie": options.pop("cookie")}
        if "tokens" in options:
            options["get_token"] = self._giving("token", channel, options.pop("tokens"))
        if "positions" in options:
            positions = [centrifuge.StreamPosition(**each) for each in options.pop("positions")]
            options["get_state"] = self._giving("position", channel, positions)
        if "delta" in options:
            options["delta"] = centrifuge.DeltaType(options["delta"])
        return options

    def _giving(
        self, event: str, channel: str | None, values: Sequence[Any]
    ) -> Callable[..., Awaitable[Any]]:
        left = [*values]

        async def give(*_channel: str) -> Any:
            self._take({"event": event, "channel": channel})
            value = left.pop(0) if len(left) > 1 else left[0]
            if value is None:
                raise centrifuge.UnauthorizedError("no longer")
            return value

        return give

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self._happened.set()
        if event["event"] == "publication" and self._throws:
            self._throws -= 1
            _let_the_loop_pass_over_one_exception()
            raise ThrownByHandler


def _let_the_loop_pass_over_one_exception() -> None:
    """The SDK hands what a handler throws to the loop, which would tell the test."""
    loop = asyncio.get_running_loop()
    others = loop.get_exception_handler()

    def pass_over(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        assert isinstance(context["exception"], ThrownByHandler)
        loop.set_exception_handler(others)

    loop.set_exception_handler(pass_over)


class _Handlers:
    """Takes whatever a client or a subscription calls `on_…`."""

    def __init__(self, take: Callable[[Event], None], channel: str | None = None) -> None:
        self._take = take
        self._channel = channel

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[None]]:
        async def take(context: Any) -> None:
            said = _in_js(context)
            said |= said.pop("pub", {})  # as the other SDK has it
            event = {"event": name.removeprefix("on_"), "ofSubscription": self._channel is not None}
            self._take({"channel": self._channel, **said, **event})

        return take


def _snake(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda found: found[1].upper(), name)


def _in_js(value: Any) -> Any:
    """A result or context as the SDK of browsers has it."""
    if is_dataclass(value):
        each = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {_camel(name): _in_js(inner) for name, inner in each}
    if isinstance(value, dict):
        return {name: _in_js(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_in_js(inner) for inner in value]
    return value
