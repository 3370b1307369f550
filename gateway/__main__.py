"""The gateway as a process of its own."""

import asyncio
from contextlib import nullcontext
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from gateway.app import GatewayParts, create_app, serving
from gateway.settings import GatewaySettings
from gateway.siblings import Siblings
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import connect_bus
from shared.runtime.listening import listen, share
from shared.runtime.process import Server, run, server_config, stop_signals
from shared.runtime.settings import read_settings
from shared.runtime.supervision import Supervisor
from shared.runtime.telemetry import configure_logging
from shared.tokens.configured import open_verifier
from shared.web.open_files import allow_open_files

log = structlog.get_logger(__name__)

LISTEN_ANYWAY_SECONDS = 10.0
"""For a worker to become ready. Then it listens without: somebody has to answer the probes."""
READY_POLL_SECONDS = 0.02
BUS_CLOSE_SECONDS = 0.2
"""All that matters was said and answered before, and the whole stop has to end in time."""


async def serve(
    settings: GatewaySettings, *, host: str, port: int, stop: asyncio.Event, worker: Path | None
) -> None:
    """Serve until ``stop`` is set, and ask everybody to come back elsewhere.

    Args:
        worker: One's own place among the workers of a reserved port, see `gateway.siblings`;
            None for a gateway that has its port for itself.

    Raises:
        CannotListen: the address is taken or not ours, or not for such settings.
    """
    settings.check_host(host)
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    siblings = None if worker is None else Siblings(worker, registry)
    with listen(host, port) if siblings is None else share(host, port) as taken:
        async with (
            open_verifier(settings, supervisor=supervisor) as verifier,
            connect_bus(
                settings.nats_url,
                name="gateway",
                creds=settings.nats_creds,
                ca=settings.nats_ca,
                close_seconds=BUS_CLOSE_SECONDS,
            ) as bus,
            start_publisher(bus, max_waiting_bytes=settings.max_waiting_publish_bytes) as publisher,
            serving(
                settings,
                bus=bus,
                publisher=publisher,
                verifier=verifier,
                registry=registry,
                supervisor=supervisor,
            ) as parts,
            nullcontext() if siblings is None else siblings.answering(),
        ):
            if siblings is not None:
                await _until_ready(parts, stop)
            app = create_app(parts, registry=registry, siblings=siblings)
            config = server_config(
                app, forwarded_allow_ips=settings.forwarded_allow_ips, **parts.server_options
            )
            server = Server(
                config,
                stop=stop,
                drain=parts.drain,
                graceful_seconds=settings.drain_seconds,
                limits=settings.peer_limits,
            )
            await server.serve(sockets=[taken])


async def _until_ready(parts: GatewayParts, stop: asyncio.Event) -> None:
    """Leave those who come to the siblings, which may be ready; but not for ever."""
    try:
        async with asyncio.timeout(LISTEN_ANYWAY_SECONDS):
            while parts.ready() and not stop.is_set():  # noqa: ASYNC110 many conditions
                await asyncio.sleep(READY_POLL_SECONDS)
    except TimeoutError:
        log.warning("listening_before_ready", reasons=parts.ready())


async def serve_until_signal(
    settings: GatewaySettings, host: str, port: int, worker: Path | None
) -> None:
    with stop_signals() as stop:
        await serve(settings, host=host, port=port, stop=stop, worker=worker)


def main(host: str, port: int, *, worker: Path | None = None, json: bool = True) -> None:
    """Serve until SIGTERM or SIGINT, with the settings of the environment.

    Args:
        json: Whether the log is for machines.

    Raises:
        WrongSettings: no gateway can run with them.
    """
    settings = read_settings(GatewaySettings, alone=True)
    configure_logging(settings.log_level, json=json)
    allow_open_files()
    run(serve_until_signal(settings, host, port, worker))


if __name__ == "__main__":
    main("127.0.0.1", 8000)
