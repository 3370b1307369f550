"""`hubbub bootstrap`: the streams that services need before they start."""

from contextlib import nullcontext
from pathlib import Path

import click

from hubbub.bus_access import bus_of, named_bus
from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.nats_child import store_room
from shared.jetstream.stream_configs import STREAMS, StreamSettings
from shared.jetstream.streams import bootstrap, keep_streams
from shared.runtime.process import running, stop_signals
from shared.runtime.settings import ServiceSettings, read_settings
from shared.runtime.telemetry import configure_logging
from shared.tokens.issuers import CLOCK_SKEW_SECONDS


async def bootstrap_streams(
    *, replicas: int, data: Path | None, nats: str | None, watch: bool, restored: bool
) -> None:
    """Create or update the streams; with ``watch`` create them again when lost, until a signal."""
    settings = read_settings(ServiceSettings)
    configure_logging(settings.log_level if watch else "ERROR", json=watch)
    with stop_signals() if watch else nullcontext() as stop:
        async with bus_of(nats=nats, data=data, name="bootstrap", user="bootstrap") as bus:
            is_of_folder = named_bus(nats=nats, data=data, settings=settings) is None
            room = store_room(DataFolder(data or DEFAULT_PATH).nats) if is_of_folder else None
            streams = stream_settings(settings, replicas=replicas, store_bytes=room)
            await bootstrap(bus, streams, restored=restored)
            click.echo(f"the streams are up to date: {', '.join(STREAMS)}")
            if stop is not None:
                async with running(lambda: keep_streams(bus, streams)):
                    await stop.wait()


def stream_settings(
    settings: ServiceSettings, *, replicas: int = 1, store_bytes: int | None = None
) -> StreamSettings:
    """Revocations are kept for the longest life of a token, and the skew of clocks."""
    longest = settings.longest_token_seconds + CLOCK_SKEW_SECONDS
    return StreamSettings(replicas=replicas, ctl_max_age_seconds=longest, store_bytes=store_bytes)
