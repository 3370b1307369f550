"""Asking the application, as the time ends that it gave a connection, whether that may stay.

The connection is closed some time later if nobody said so: until then it is asked again.
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
    """Of one connection. It refers to its client, until `end`."""

    __slots__ = ("_client", "_timer")

    def __init__(self, client: Dialogue) -> None:
        self._client = client
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Ask when the time is over, if it ever is."""
        expires_at = self._client.session.claims.expires_at
        if expires_at < math.inf:
            self._wait(expires_at - our_clock())

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self.end()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        client = self._client
        if not client.connection.is_open:
            return
        if client.session.claims.expires_at > our_clock():  # a service has prolonged it
            self.begin()
        else:
            client.connection.start(self._ask())

    async def _ask(self) -> None:
        client = self._client
        try:
            stay = await client.service.proxies.refresh(client.caller)
        except (ApplicationAway, TooManyAsked):
            if client.connection.is_open:
                self._wait(client.service.proxies.limits.refresh_retry_seconds)
        except ApplicationRefuses:  # it comes again, and is told that in its answer
            client.connection.close(CONNECTION_EXPIRED)
        except ApplicationDisconnects as end:
            client.connection.close(Close(end.code, end.reason))
        else:
            if stay is None:
                client.connection.close(CONNECTION_EXPIRED)
            elif client.connection.is_open:
                self._stay(stay)

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
        self.begin()
