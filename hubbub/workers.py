"""`hubbub gateway --workers N`: several gateway processes on one port, each its own node."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.settings import GatewaySettings
from hubbub.environment import inherited_environment
from hubbub.errors import CommandFailed
from hubbub.gateways import gateway_child
from hubbub.stop_early import ignore_stop_signals
from shared.runtime.listening import reserve
from shared.runtime.process import run, running, stop_signals
from shared.runtime.settings import read_settings
from shared.runtime.telemetry import configure_logging


def run_workers(host: str, port: int, count: int) -> None:
    """Keep them running until a signal; then let all of them drain.

    Raises:
        CannotListen: the address is taken or not ours, or not allowed with these settings.
        CommandFailed: one of them could not serve at its first start.
    """
    if sys.platform != "linux":
        raise CommandFailed("--workers needs Linux: elsewhere one of them gets all connections")
    settings = read_settings(GatewaySettings, alone=True)
    settings.check_host(host)
    configure_logging(settings.log_level, json=True)
    run(_keep_alive(host, port, count, drain_seconds=settings.drain_seconds))


async def _keep_alive(host: str, port: int, count: int, *, drain_seconds: float) -> None:
    with (
        stop_signals() as stop,
        reserve(host, port) as reserved,
        TemporaryDirectory(prefix="hubbub-") as folder,  # 0700
    ):
        workers = [
            gateway_child(
                f"worker {number}",
                host,
                reserved.getsockname()[1],
                env=inherited_environment(),
                drain_seconds=drain_seconds,
                worker=Path(folder, str(number)),
            )
            for number in range(1, count + 1)
        ]
        async with running(*(worker.run for worker in workers)):
            await stop.wait()
    ignore_stop_signals()
