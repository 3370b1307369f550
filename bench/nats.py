"""The nats-server of a benchmark: one node, JetStream on disk."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.cores import LOAD_CORE
from bench.processes import listening
from hubbub.nats_binary import server_binary
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap


@asynccontextmanager
async def start_nats(home: Path, *, port: int, synced: bool) -> AsyncGenerator[str]:
    """Start a server with Hubbub's streams; yield its URL.

    Args:
        synced: Whether a message is synced to the disk before it is acknowledged, as `hubbub up`
            and deploy/nats configure it. Otherwise it is only written before, and synced every
            two minutes: the default of nats-server.
    """
    store = {"store_dir": str(home), "sync_interval": "always" if synced else "2m"}
    config = home / "nats.conf"
    config.write_text(
        json.dumps({"listen": f"127.0.0.1:{port}", "max_payload": 256 * 1024, "jetstream": store})
    )
    async with listening(server_binary(), "-c", str(config), port=port, core=LOAD_CORE, quiet=True):
        url = f"nats://127.0.0.1:{port}"
        async with connect_bus(url, name="bench") as bus:
            await bootstrap(bus)
        yield url
