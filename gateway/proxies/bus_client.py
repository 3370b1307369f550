"""One call to a service on the bus: a request on `rpc.<method>`, and its one answer.

A method is one token or several with dots between. So it can hold no wildcard, and what is sent
stays below `rpc.`, which is all that the gateway's user may ask.
"""

import re

from gateway.errors import Refusal
from gateway.proxies.errors import ApplicationAway, BadMethod, NobodyServes
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected, NobodyAnswers

PREFIX = "rpc."

_MAX_METHOD_CHARS = 128
_METHOD = re.compile(r"[\w:-]+(?:\.[\w:-]+)*", re.ASCII)


class BusClient:
    """Calls methods, with a deadline."""

    def __init__(self, bus: Bus, *, timeout_seconds: float, max_reply_bytes: int) -> None:
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._max_reply_bytes = max_reply_bytes

    async def call(self, method: str, body: bytes) -> bytes:
        """What the service answers.

        Raises:
            BadMethod: none can be called so.
            NobodyServes: nobody listens to it.
            ApplicationAway: there is no answer in time, or it is too long.
        """
        if len(method) > _MAX_METHOD_CHARS or not _METHOD.fullmatch(method):
            raise BadMethod("no method is called so")
        try:
            answer = await self._bus.request(
                f"{PREFIX}{method}", body, timeout_seconds=self._timeout_seconds
            )
        except NobodyAnswers:
            raise NobodyServes("nobody serves it now", Refusal.NOT_AVAILABLE) from None
        except (BusUnavailable, MessageRejected) as error:
            raise ApplicationAway(str(error)) from None
        if len(answer) > self._max_reply_bytes:
            raise ApplicationAway(f"answered more than {self._max_reply_bytes} bytes")
        return answer
