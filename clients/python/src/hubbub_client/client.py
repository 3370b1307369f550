"""The client that is awaited. `sync_client.py` is made from it: `just twin`."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import httpx2

from hubbub_client.arguments import User, listed, user_id
from hubbub_client.events import to_notification
from hubbub_client.exchange import Answer, Attempts, Limits, ask
from hubbub_client.http import AsyncHttp
from hubbub_client.publishing import Publish, a_key, broadcast, publish_many
from hubbub_client.results import (
    Connection,
    History,
    Position,
    PresenceStats,
    read_connections,
    read_nothing,
)

DEFAULT_LIMITS = Limits()


class Hubbub:
    """The server API of the gateways. One object serves a whole application.

    A command is tried again, under the same idempotency key, until it is answered or the deadline
    of `Limits` has passed. Each may raise a `HubbubError`: it was not done, or nobody knows.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            url: Of a gateway, or of what stands before all of them: ``http://127.0.0.1:8000``.
            transport: Carries the requests, instead of connections of its own.

        Raises:
            ValueError: the URL is none of HTTP, or the key can't stand in a header.
        """
        self._limits = limits
        self._http = AsyncHttp(url, api_key, transport)

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
    ) -> Position:
        """Publish into a channel; return when it is stored.

        Args:
            data: An event, or any JSON value.
            idempotency_key: For 5 minutes, a channel gets one publication with the same key.
            tags: What subscribers may filter by.
            delta: Whether subscribers may be sent a patch of the publication before it.
        """
        body = Publish(channel, data, idempotency_key, tags, delta).to_body()
        return await self._http.run(ask("publish", body, Position.read, self._attempts()))

    async def publish_ephemeral(
        self, channel: str, data: object, *, tags: dict[str, str] | None = None
    ) -> None:
        """Publish to those who are in a channel now; nothing of it is stored.

        Whether anybody got it is not known. If it had to be sent again, it may have come twice.

        Args:
            data: An event, or any JSON value.
            tags: What subscribers may filter by.
        """
        body = Publish(channel, data, tags=tags).to_body() | {"skip_history": True}
        del body["idempotency_key"]
        await self._http.run(ask("publish", body, read_nothing, self._attempts()))

    async def notify(
        self, user: User, event: object, *, idempotency_key: str | None = None
    ) -> Position:
        """Tell a user of an event, on all of their connections.

        Args:
            event: A model, or a mapping that says its name as `event`.
            idempotency_key: Subscribers see it as the `id` of the event.

        Raises:
            ValueError: it is no event.
        """
        key = idempotency_key or a_key()
        data = to_notification(event, key)
        return await self.publish(f"#{user_id(user)}", data, idempotency_key=key)

    async def broadcast(
        self,
        channels: Iterable[str],
        data: object,
        *,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
    ) -> list[Position]:
        """Publish the same into many channels.

        Raises:
            ValueError: the channels are a text instead of a list.
            PartlyPublished: some did not get it; its `outcomes` say which.
        """
        shared = Publish("", data, idempotency_key, tags, delta)
        return await self._http.run(broadcast(channels, shared, self._limits))

    async def publish_many(self, publications: Iterable[Publish]) -> list[Position]:
        """Publish many, in their order but for those that have to be tried again.

        Raises:
            PartlyPublished: some were not stored; its `outcomes` say which.
        """
        return await self._http.run(publish_many(publications, self._limits))

    async def presence(self, channel: str) -> list[Connection]:
        """Who is in a channel, on all gateways."""
        body = {"channel": channel}
        return await self._http.run(ask("presence", body, read_connections, self._attempts()))

    async def presence_stats(self, channel: str) -> PresenceStats:
        """How many are in a channel."""
        body = {"channel": channel}
        return await self._http.run(
            ask("presence_stats", body, PresenceStats.read, self._attempts())
        )

    async def history(
        self,
        channel: str,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> History:
        """What was published in a channel.

        Args:
            limit: 0 for the position alone, -1 for as much as a gateway gives at once.
            since: What came after it, or before it if `reverse`.
            reverse: Whether the newest comes first.

        Raises:
            PositionLost: the history does not reach back to `since`.
        """
        body: Answer = {"channel": channel, "limit": limit, "reverse": reverse}
        if since is not None:
            body["since"] = since._asdict()
        return await self._http.run(ask("history", body, History.read, self._attempts()))

    async def subscribe(
        self,
        user: User,
        channel: str,
        *,
        connection: str = "",
        info: object = None,
        data: object = None,
        since: Position | None = None,
    ) -> None:
        """Subscribe a user's connections to a channel.

        Args:
            connection: The one connection that is meant.
            info: What others in the channel see as its `chan_info`.
            data: For the subscriber.
            since: What was published after it comes too.
        """
        body: Answer = {"user": user_id(user), "client": connection, "channel": channel}
        body |= {"info": info, "data": data}
        if since is not None:
            body["recover_since"] = since._asdict()
        await self._http.run(ask("subscribe", body, read_nothing, self._attempts()))

    async def unsubscribe(self, user: User, channel: str, *, connection: str = "") -> None:
        """End the subscriptions of a user's connections to a channel."""
        body = {"user": user_id(user), "client": connection, "channel": channel}
        await self._http.run(ask("unsubscribe", body, read_nothing, self._attempts()))

    async def disconnect(
        self,
        user: User,
        *,
        connection: str = "",
        code: int = 0,
        reason: str = "",
        keep: Sequence[str] = (),
    ) -> None:
        """End a user's connections, on all gateways.

        Args:
            connection: The one connection that is meant.
            code: From 3000 to 4999, for the SDKs, which tells them whether to come back.
            keep: Connections that stay.

        Raises:
            ValueError: they are a text instead of a list, or nobody is called so.
        """
        body: Answer = {"user": user_id(user), "client": connection, "whitelist": listed(keep)}
        body["disconnect"] = {"code": code, "reason": reason}
        await self._http.run(ask("disconnect", body, read_nothing, self._attempts()))

    async def close(self) -> None:
        """Close the connections to the gateway."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _attempts(self) -> Attempts:
        return Attempts(self._limits)
