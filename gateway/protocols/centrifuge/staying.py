"""Asking the application, as the time ends that it gave a connection, whether that may stay.

The connection is closed some time later if nobody said so: until then it is asked again. Of a
connection that has shown a token since, the token says how long it stays.
"""

import asyncio
import math
from dataclasses import replace

from gateway.protocols.centrifuge.codes import CONNECTION_EXPIRED
from gateway.protocols.centrifuge.dialogue import Dialogue
from gateway.protocols.centrifuge.subscriptions import show_again
from gateway.proxies.errors import (
    ApplicationAway,
    ApplicationDisconnects,
    ApplicationRefuses,
    TooManyAsked,
)
from gateway.proxies.replies import Stay
from gateway.transport.frames import Close
from hubbub_client.jetstream.clock import our_clock


class Staying:
    """Of one connection. It refers to its client, and the client's session to it, until `end`."""

    __slots__ = ("_client", "_is_asking", "_timer")

    def __init__(self, client: Dialogue) -> None:
        self._client = client
        self._is_asking = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Ask when the time is over, whenever that is by then."""
        self._client.session.on_end_settled = self._wait
        self._wait()

    def end(self) -> None:
        self._client.session.on_end_settled = None
        self._cancel()

    def _wait(self) -> None:
        """Until the time is over, by the clock as it is now."""
        self._cancel()
        claims = self._client.session.claims
        if not self._is_asking and not claims.is_of_token and claims.expires_at < math.inf:
            self._ask_in(claims.expires_at - our_clock())

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        self._timer = None
        connection = self._client.connection
        if connection.is_open:
            self._is_asking = True
            connection.start(self._ask())

    async def _ask(self) -> None:
        try:
            answer = await self._answer()
        finally:
            self._is_asking = False
        client = self._client
        if not client.connection.is_open or client.session.claims.is_of_token:
            return
        if answer is None:
            self._ask_in(client.service.proxies.limits.refresh_retry_seconds)
        elif isinstance(answer, Close):
            client.connection.close(answer)
        else:
            self._stay(answer)

    async def _answer(self) -> Stay | Close | None:
        """That it may stay, or how it ends; None if nobody says."""
        client = self._client
        try:
            stay = await client.service.proxies.refresh(client.caller)
        except (ApplicationAway, TooManyAsked):
            return None
        except ApplicationRefuses:  # it comes again, and is told that in its answer
            return CONNECTION_EXPIRED
        except ApplicationDisconnects as end:
            return Close(end.code, end.reason)
        return CONNECTION_EXPIRED if stay is None else stay

    def _stay(self, stay: Stay) -> None:
        client, claims = self._client, self._client.session.claims
        client.service.manager.renew(
            client.session,
            replace(
                claims,
                expires_at=stay.expires_at,
                info=claims.info if stay.info is None else stay.info,
                meta=claims.meta if stay.meta is None else stay.meta,
            ),
        )
        client.session.end_with_token()
        if stay.info is not None:
            show_again(client)
