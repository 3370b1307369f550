"""A gateway among others on one port."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2

from gateway.__main__ import LISTEN_ANYWAY_SECONDS, serve
from gateway.settings import GatewaySettings
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from shared.runtime.listening import reserve
from tests.fixtures import plain_http
from tests.fixtures.nats import NatsServer
from tests.fixtures.tokens import SECRET
from tests.fixtures.waiting import eventually

REFUSED = -1


async def test_a_worker_leaves_those_who_come_to_its_siblings_until_it_is_ready_or_late(
    nats_server: Callable[[], NatsServer], tmp_path: Path
) -> None:
    nats = nats_server()
    async with connect_bus(nats.url, name="test") as bus:
        await bootstrap(bus)
    nats.stop()
    settings = GatewaySettings.model_validate({"nats_url": nats.url, "hmac_secret": SECRET})
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with reserve("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]

        async def serving() -> None:
            await serve(settings, host="127.0.0.1", port=port, stop=stop, worker=tmp_path / "1")

        async def readiness() -> int:
            async with plain_http.client(timeout=5) as client:
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code
                except httpx2.ConnectError:
                    return REFUSED

        async with asyncio.TaskGroup() as group:
            group.create_task(serving())
            await eventually((tmp_path / "1").exists)
            began = loop.time()
            answers = [await readiness()]
            while answers[-1] == REFUSED and loop.time() < began + 2 * LISTEN_ANYWAY_SECONDS:
                await asyncio.sleep(0.1)
                answers.append(await readiness())
            nats.start()
            while answers[-1] == 503 and loop.time() < began + 3 * LISTEN_ANYWAY_SECONDS:
                await asyncio.sleep(0.1)
                answers.append(await readiness())
            stop.set()

    assert list(dict.fromkeys(answers)) == [REFUSED, 503, 200]
    assert answers.count(REFUSED) > 1
