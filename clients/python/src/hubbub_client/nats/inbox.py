"""Reply subjects: one wildcard subscription for all answers on a connection."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import NamedTuple

from hubbub_client.nats.errors import BusUnavailable, NobodyAnswers
from hubbub_client.nats.headers import status

NO_RESPONDERS = 503

ReplyHandler = Callable[[bytes, bytes | None], None]
"""Gets the payload and headers of an answer."""


AnswersHandler = Callable[[int, bytes, bytes | None], None]
"""Gets the number of the reply subject too."""


class Reply(NamedTuple):
    """One answer to a request."""

    payload: bytes
    headers: bytes | None


class Inbox:
    """Gives each answer to the handler of its token; drops those that come after `forget`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}.{secrets.token_hex(8)}."
        self._prefix_length = len(self._prefix)
        self._tokens = itertools.count(1)
        self._handlers: dict[int, ReplyHandler] = {}
        self._collecting: set[asyncio.Future[list[Reply]]] = set()

    @property
    def subject(self) -> str:
        """The subject for `take`."""
        return f"{self._prefix}*"

    def take(self, subject: bytes, payload: bytes, headers: bytes | None, _reply: bytes) -> None:
        handler = self._handlers.get(int(subject[self._prefix_length :]))
        if handler is not None:
            handler(payload, headers)

    def expect(self, handler: ReplyHandler) -> tuple[int, str]:
        """Make a reply subject; return the token for `forget`, and the subject."""
        token = next(self._tokens)
        self._handlers[token] = handler
        return token, f"{self._prefix}{token}"

    def separate_subject(self) -> str:
        """A subject that `take` doesn't get, for a subscription of its own."""
        return f"{self._prefix}{next(self._tokens)}.separate"

    def forget(self, token: int) -> None:
        self._handlers.pop(token, None)

    async def collect(
        self,
        send: Callable[[str], None],
        *,
        is_last: Callable[[Reply], bool],
        timeout_seconds: float,
    ) -> list[Reply]:
        """Send with a reply subject, and collect the answers up to and including the last.

        Raises:
            BusUnavailable: no responders, the connection was lost, or not all answers in time.
        """
        done: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        replies: list[Reply] = []

        def handle(payload: bytes, headers: bytes | None) -> None:
            if done.done():
                return
            replies.append(Reply(payload, headers))
            if status(headers) == NO_RESPONDERS:
                done.set_exception(NobodyAnswers("nobody on the bus answers"))
            elif is_last(replies[-1]):
                done.set_result(replies)

        token, subject = self.expect(handle)
        self._collecting.add(done)
        try:
            send(subject)
            async with asyncio.timeout(timeout_seconds):
                return await done
        except TimeoutError as error:
            raise BusUnavailable("the bus did not answer in time") from error
        finally:
            self._collecting.discard(done)
            self.forget(token)

    def connection_lost(self) -> None:
        """Fail every `collect`: its answers were lost with the connection."""
        for done in self._collecting:
            if not done.done():
                done.set_exception(BusUnavailable("the connection to the bus was lost"))
