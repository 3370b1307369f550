"""A connection to NATS that reconnects for as long as the process lives."""

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

try:
    import nats.errors
except ImportError as error:
    raise ImportError("the bus needs nats-py: pip install 'hubbub-client[nats]'") from error

from hubbub_client.beside import beside
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.address import BadAddress, check_servers, credentials_of, tls_context
from hubbub_client.nats.errors import BusLost, BusUnavailable, MessageRejected, StreamMissing
from hubbub_client.nats.foreign import without_foreign
from hubbub_client.nats.inbox import AnswersHandler, Inbox, Reply, ReplyHandler
from hubbub_client.nats.light_client import LightClient, Subscription
from hubbub_client.nats.parser import Handler
from hubbub_client.urls import without_passwords

__all__ = [
    "Bus", "BusLost", "BusUnavailable", "Handler", "MessageRejected", "Reply", "StreamMissing",
    "Subscription", "connect_bus",
]  # fmt: skip

log = logging.getLogger(__name__)

TOO_LARGE = 10054  # "message size exceeds maximum allowed", as JetStream calls it
_NOT_ALLOWED = ("permissions violation", "authorization violation")
_ERRORS_KNOWN = 16  # the servers of a cluster may fail in different ways

BAD_SUBJECT = 10004
_SUBJECT = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*")  # printable, no * and no >
_MAX_SUBJECT_BYTES = 1536  # the server cuts the connection at a control line of 4096
_KNOWN_SUBJECTS = 1024  # most messages go to the same channels; at most 3.5 MiB


@lru_cache(maxsize=_KNOWN_SUBJECTS)
def encode_subject(subject: str) -> bytes:
    """A subject to publish to, as bytes.

    Raises:
        MessageRejected: it is malformed or has a wildcard: the server would cut the connection.
    """
    if len(subject) > _MAX_SUBJECT_BYTES or not _SUBJECT.fullmatch(subject):
        raise MessageRejected(BAD_SUBJECT, "not a subject to publish to")
    return subject.encode()


class Bus:
    """A NATS connection. Made by `connect_bus`; handlers are called as messages arrive."""

    def __init__(self, *, inbox_prefix: str, max_pending_bytes: int) -> None:
        self._client = LightClient(max_pending_bytes=max_pending_bytes)
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._last_errors: deque[str] = deque(maxlen=_ERRORS_KNOWN)
        self.not_allowed: str | None = None
        """What the server last refused since it was connected: a subject, or to let it in."""
        self.refusals = 0
        """How often it refused anything."""
        self._servers = ""
        """Their addresses, without passwords."""
        self._on_connected: list[Callable[[], None]] = []
        self._on_disconnected: list[Callable[[], None]] = []
        self._inbox = Inbox(inbox_prefix)
        self._client.subscribe_inline(self._inbox.subject, self._inbox.take)

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    async def until_connected(self) -> None:
        await self._up.wait()

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and payload together; for more the server disconnects."""
        return self._client.max_payload

    @property
    def server_version(self) -> str:
        """Of the server that we are connected to; empty before."""
        return self._client.server_version

    @property
    def last_error(self) -> str | None:
        """What went wrong the last time that we tried to connect; None while connected."""
        return self._last_errors[-1] if self._last_errors else None

    def on_connected(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call it after every (re)connect, once subscriptions are sent; the result detaches it."""
        self._on_connected.append(callback)
        return lambda: self._on_connected.remove(callback)

    def on_disconnected(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call it whenever the connection is lost; the result detaches it."""
        self._on_disconnected.append(callback)
        return lambda: self._on_disconnected.remove(callback)

    async def subscribe(
        self, subject: str, handler: Handler, *, foreign: bool = False
    ) -> Subscription:
        """Call the handler for every message as it is parsed; it must be quick.

        What is sent later on this connection reaches the server after the subscription.

        Args:
            foreign: Also for those that were published to another subject, and that the server
                delivers here, as it does with messages of a consumer.
        """
        if not foreign:
            handler = without_foreign(subject, handler)
        return self._client.subscribe_inline(subject, handler)

    def send(self, subject: str, payload: bytes, *, headers: bytes = b"", reply: str = "") -> None:
        """Queue a message. Only a reply shows that it arrived.

        Args:
            headers: A whole block, from `encode_headers`.

        Raises:
            BusUnavailable: not connected, or the send buffer is full.
            MessageRejected: the server would cut the connection because of it.
        """
        to = encode_subject(subject)
        size = len(headers) + len(payload)
        if size > self._client.max_payload:
            raise MessageRejected(TOO_LARGE, f"{size} bytes are more than the bus takes")
        answer_to = reply.encode()
        if headers:
            command = b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
                to, answer_to, len(headers), size, headers, payload,
            )  # fmt: skip
        else:
            command = b"PUB %b %b %d\r\n%b\r\n" % (to, answer_to, size, payload)
        self._client.send_command(command)

    def expect_reply(self, handler: ReplyHandler) -> tuple[int, str]:
        """Make a reply subject whose answers go to the handler until `forget_reply`.

        Returns:
            The token for `forget_reply`, and the subject for `send`.
        """
        return self._inbox.expect(handler)

    def open_inbox(self, take: AnswersHandler) -> tuple[str, Subscription]:
        """Make reply subjects for very many answers, each at the cost of a number.

        Returns:
            What the reply subjects begin with; a number makes it one, and ``take`` gets the number
            with the answer. And the subscription, until it is closed.
        """
        prefix = f"{self._inbox.separate_subject()}."
        number_at = len(prefix)

        def heed(subject: bytes, payload: bytes, headers: bytes | None, _reply: bytes) -> None:
            take(int(subject[number_at:]), payload, headers)

        return prefix, self._client.subscribe_inline(f"{prefix}*", heed)

    def own_inbox(self) -> str:
        """A subject to subscribe to, for answers that don't carry their reply subject."""
        return self._inbox.separate_subject()

    def forget_reply(self, token: int) -> None:
        self._inbox.forget(token)

    async def request(self, subject: str, payload: bytes, *, timeout_seconds: float) -> bytes:
        """Send, and wait for the one answer.

        Raises:
            BusUnavailable: not connected, no responders, or no answer in time.
        """
        [reply] = await self.request_many(
            subject, payload, is_last=lambda _reply: True, timeout_seconds=timeout_seconds
        )
        return reply.payload

    async def request_many(
        self,
        subject: str,
        payload: bytes,
        *,
        is_last: Callable[[Reply], bool],
        timeout_seconds: float,
    ) -> list[Reply]:
        """Send, and collect the answers up to and including the last.

        Raises:
            BusUnavailable: not connected, no responders, or not all answers in time.
        """
        return await self._inbox.collect(
            lambda inbox: self.send(subject, payload, reply=inbox),
            is_last=is_last,
            timeout_seconds=timeout_seconds,
        )

    # The life of the connection, called by connect_bus and nats-py.

    async def keep(
        self,
        servers: list[str],
        *,
        name: str,
        creds: Path | None,
        tls: ssl.SSLContext | None,
        connect_seconds: float,
        reconnect_seconds: float,
        ping_seconds: float,
        max_outstanding_pings: int,
    ) -> None:
        """Connect, however long it takes, and raise when nats-py gives up.

        Raises:
            BusLost: it will not come back.
            BadAddress: no server can be there.
        """
        user, password = credentials_of(servers)
        self._servers = without_passwords(",".join(servers))
        try:
            await self._client.connect(
                servers,
                name=name,
                user=user,
                password=password,
                user_credentials=creds,
                tls=tls,
                connect_timeout=connect_seconds,  # type: ignore[arg-type]
                reconnect_time_wait=reconnect_seconds,  # type: ignore[arg-type]
                max_reconnect_attempts=-1,
                ping_interval=ping_seconds,  # type: ignore[arg-type]
                max_outstanding_pings=max_outstanding_pings,
                flush_timeout=connect_seconds,
                error_cb=self._heard_error,
                disconnected_cb=self._went_down,
                reconnected_cb=self._came_up,
                closed_cb=self._was_closed,
                lame_duck_mode_cb=self._was_asked_to_leave,
            )
        except nats.errors.Error as error:  # nats-py retries what may be temporary
            # From None: the cause may hold a part of a password.
            raise BadAddress(f"cannot connect to {self._servers!r}: {error}") from None
        # No other task has run since connecting, so the subscriptions are the first to be sent.
        self._client.subscribe_again()
        await self._came_up()
        await self._lost.wait()
        raise BusLost("the bus closed the connection for good")

    def begin_close(self) -> None:
        """Connect no more: what is being cancelled may not be told so."""
        self._client.is_closing = True

    async def close(self, *, close_seconds: float) -> None:
        try:
            async with asyncio.timeout(close_seconds):
                await self._client.close()
        except TimeoutError:
            log.warning(LogEvent("bus_close_timed_out"))

    async def _came_up(self) -> None:
        log.info(LogEvent("bus_connected"))
        self._last_errors.clear()
        self.not_allowed = None
        self._up.set()
        self._call(self._on_connected)

    async def _went_down(self) -> None:
        self._up.clear()
        self._inbox.connection_lost()
        if not self._client.is_closing:
            log.warning(LogEvent("bus_disconnected"))
        self._call(self._on_disconnected)

    async def _was_closed(self) -> None:
        if not self._client.is_closing:
            log.error(LogEvent("bus_lost"))
            self._lost.set()

    async def _was_asked_to_leave(self) -> None:
        log.info(LogEvent("bus_lame_duck"))
        await self._client.force_reconnect()

    async def _heard_error(self, error: Exception) -> None:
        text = str(error) or repr(error)
        if any(refusal in text.lower() for refusal in _NOT_ALLOWED):
            self.not_allowed = text.removeprefix("nats: ").strip("'")
            self.refusals += 1
        if text not in self._last_errors:  # log it once, not at every attempt to connect
            log.warning(LogEvent("bus_error", error=text, servers=self._servers))
            self._last_errors.append(text)

    def _call(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in list(callbacks):
            try:
                callback()
            except Exception:  # it would end nats-py's reconnect task
                log.exception(LogEvent("bus_callback_failed"))


@asynccontextmanager
async def connect_bus(
    url: str,
    *,
    name: str,
    creds: Path | None = None,
    ca: Path | None = None,
    connect_seconds: float = 2,
    reconnect_seconds: float = 0.2,
    ping_seconds: float = 5,
    max_outstanding_pings: int = 2,
    max_pending_bytes: int = 8 * 1024 * 1024,
    close_seconds: float = 2,
) -> AsyncGenerator[Bus]:
    """A bus that connects in the background, so that an absent server delays nothing.

    Args:
        url: One server, or several with commas between them, with the same credentials for all.
        name: One word; answers come to ``_INBOX_<name>.``, which no other service may read.
        ca: The authority of the server's certificate; with it TLS is required, as by ``tls://``.

    Raises:
        BusLost: in the body, if the connection was closed for good.
        BadAddress: the URL is malformed, or the CA can't be read; or, in the body, who connects
            can't be proved.
    """
    tls = tls_context(check_servers(url), ca)
    bus = Bus(inbox_prefix=f"_INBOX_{name}", max_pending_bytes=max_pending_bytes)
    keeping = bus.keep(
        url.split(","),
        name=name,
        creds=creds,
        tls=tls,
        connect_seconds=connect_seconds,
        reconnect_seconds=reconnect_seconds,
        ping_seconds=ping_seconds,
        max_outstanding_pings=max_outstanding_pings,
    )
    async with beside(keeping) as keeper:
        try:
            yield bus
        finally:
            bus.begin_close()
            try:
                while not keeper.done():  # asyncio.wait_for, in nats-py, may swallow one cancel
                    keeper.cancel()
                    await asyncio.wait({keeper}, timeout=close_seconds)
            finally:  # cancelled or not
                await bus.close(close_seconds=close_seconds)
