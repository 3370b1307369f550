"""The auth service as a process of its own."""

import asyncio

from prometheus_client import CollectorRegistry

from auth_service.app import create_app, serving
from auth_service.settings import AuthSettings
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import connect_bus
from shared.runtime.listening import listen
from shared.runtime.process import Server, run, server_config, stop_signals
from shared.runtime.settings import read_settings
from shared.runtime.supervision import Supervisor
from shared.runtime.telemetry import configure_logging
from shared.sql.outbox_metrics import OutboxMetrics
from shared.web.open_files import allow_open_files


async def serve(settings: AuthSettings, *, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set.

    Raises:
        CannotListen: the address is taken or not ours.
    """
    registry = CollectorRegistry()
    with listen(host, port) as taken:
        async with (
            connect_bus(
                settings.nats_url, name="auth", creds=settings.nats_creds, ca=settings.nats_ca
            ) as bus,
            start_publisher(bus) as publisher,
            serving(
                settings,
                bus=bus,
                publisher=publisher,
                outbox_metrics=OutboxMetrics(registry),
                supervisor=Supervisor(registry),
            ) as parts,
        ):
            app = create_app(parts, registry=registry)
            config = server_config(app, forwarded_allow_ips=settings.forwarded_allow_ips)
            server = Server(config, stop=stop, limits=settings.peer_limits)
            await server.serve(sockets=[taken])


async def serve_until_signal(settings: AuthSettings, host: str, port: int) -> None:
    with stop_signals() as stop:
        await serve(settings, host=host, port=port, stop=stop)


def main(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, with the settings of the environment.

    Raises:
        WrongSettings: the service can't run with them.
    """
    settings = read_settings(AuthSettings, alone=True)
    configure_logging(settings.log_level, json=True)
    allow_open_files()
    run(serve_until_signal(settings, host, port))


if __name__ == "__main__":
    main("127.0.0.1", 8000)
