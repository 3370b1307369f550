"""A consumer of events as an application writes it: handlers, and something that runs them."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hubbub_client.beside import beside
from hubbub_client.bus.connecting import BusAddress, keep_signed_in
from hubbub_client.bus.consumer import Begin, Consumer
from hubbub_client.bus.failures import EventFailed
from hubbub_client.bus.handlers import E, Handlers, Register
from hubbub_client.bus.limits import ConsumerLimits
from hubbub_client.contracts.subjects import parse_application
from hubbub_client.events import Readable
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.address import BadAddress
from hubbub_client.nats.client import Bus

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Events:
    """A durable consumer: which events are handled, and by which function.

    An event comes at least once, and sometimes twice. They come in any order, unless a single
    process runs with ``max_handlers=1``, and even then what failed comes later.
    """

    def __init__(
        self, name: str, *, begin: Begin = "new", limits: ConsumerLimits | None = None
    ) -> None:
        """
        Args:
            name: All processes of this name share the work, and the bus knows how far they are.
            begin: Where they begin if the bus does not know it: with what is published from
                then on, or with all that it holds, which is a week.

        Raises:
            ValueError: no consumer can be called so, or Hubbub's own are.
        """
        self.name = parse_application(name)
        self._begin = begin
        self._limits = limits or ConsumerLimits()
        self._handlers = Handlers()
        self._ready = asyncio.Event()

    def on(self, model: type[E], *, service: str | None = None) -> Register[E]:
        """Decorate the handler of an event.

        It is called with the event, or with the event and `Received`. When it returns, the event
        is done; if it raises, the event comes again.

        Args:
            model: Its class says the event's name and version, as when it is published.
            service: Whose events; by default those of any.
        """
        return Register(self._handlers, model, service)

    def off(self, model: type[Readable], *, service: str | None = None) -> None:
        """Say that no process of this consumer handles such events any more.

        Without it they still come to a consumer that once handled them, for processes of an
        earlier version. So say it when none of these runs any more.

        Args: as for `on`; of all versions of the event.

        Raises:
            ValueError: no event or service is called so.
        """
        self._handlers.give_up(model, service)

    async def until_ready(self) -> None:
        """Until the bus knows this consumer: it gets what is published from now on."""
        await self._ready.wait()

    async def run(
        self, url: str | Path, *, creds: Path | None = None, ca: Path | None = None
    ) -> None:
        """Handle events until cancelled; then wait for handlers under way.

        Once it has begun, it begins anew after whatever happens, and logs it.

        Args: as for `connect`.

        Raises:
            ValueError: there is no handler, or the URL is malformed.
            OSError: the file of the URL can't be read.
        """
        await self._run(self._checked(BusAddress(url, creds, ca)))

    @asynccontextmanager
    async def running(
        self, url: str | Path, *, creds: Path | None = None, ca: Path | None = None
    ) -> AsyncGenerator[None]:
        """Handle events beside the body, such as in the lifespan of an application.

        Args, Raises: as for `run`; once the body has begun it raises nothing.
        """
        async with beside(self._run(self._checked(BusAddress(url, creds, ca)))):
            yield

    async def serve(
        self, url: str | Path, *, creds: Path | None = None, ca: Path | None = None
    ) -> None:
        """Handle events until SIGTERM or SIGINT; then wait for handlers under way.

        Args: as for `connect`.

        Raises:
            ValueError: there is no handler.
            SystemExit: the URL is malformed, or a file can't be read. It is said in one line.
        """
        try:
            address = self._checked(BusAddress(url, creds, ca))
        except (OSError, BadAddress) as error:
            raise SystemExit(f"Error: {error}") from None
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        is_stopping = False

        def stop() -> None:
            nonlocal is_stopping
            if not is_stopping:  # a second signal changes nothing
                is_stopping = True
                task.cancel()

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await self._run(address)
        except asyncio.CancelledError:
            if not is_stopping or task.uncancel() > 0:
                raise
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _checked(self, address: BusAddress) -> BusAddress:
        if not self._handlers.subjects():
            raise ValueError("there is no handler")
        address.read()
        return address

    async def _run(self, address: BusAddress) -> None:
        begins_anew = LogEvent("consumer_begins_anew", consumer=self.name)
        try:
            await keep_signed_in(
                address,
                self._consume,
                begins_anew=begins_anew,
                first_pause_seconds=self._limits.retry_seconds,
            )
        finally:
            self._ready = asyncio.Event()  # the next event loop can't wait for this one's

    async def _consume(self, bus: Bus, publisher: Publisher) -> None:
        consumer = Consumer(
            bus,
            publisher,
            self._handlers,
            name=self.name,
            begin=self._begin,
            limits=self._limits,
            ready=self._ready,
        )
        try:
            await consumer.run()
        finally:
            self._ready.clear()

    async def retry(self, failure: EventFailed) -> None:
        """Handle an event that failed earlier; raises what its handler raises.

        Raises:
            CannotHandle, NoHandler: it still can't be handled.
        """
        await self._handlers.handle(
            failure.payload.encode(), failure.subject, deliveries=failure.deliveries + 1
        )
