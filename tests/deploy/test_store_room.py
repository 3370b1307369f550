"""The servers' stores hold what the streams reserve, as they are shipped."""

import re
from typing import Any

from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from tests.deploy.manifests import DEPLOY, KUBERNETES, read_yaml
from tests.fixtures.nats import StartServer
from tests.shared.jetstream.builders import js_api

UNIT = {"KB": 1024, "MB": 1024**2, "GB": 1024**3, "Gi": 1024**3}


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNIT[unit]


async def test_the_streams_reserve_no_more_than_each_server_may_store(
    nats_server: StartServer,
) -> None:
    compose = (DEPLOY / "nats/nats.conf").read_text()
    chart: dict[str, Any] = read_yaml(KUBERNETES / "nats-values.yaml")
    [shipped] = re.findall(r"max_file_store: (\w+)", compose)
    claimed = chart["config"]["jetstream"]["fileStore"]["pvc"]["size"]
    server = nats_server(f"jetstream {{ max_file_store: {shipped} }}")
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        account = await js_api(bus, "INFO")
        rooms = [
            (await js_api(bus, f"STREAM.INFO.{stream}"))["config"]["max_bytes"]
            for stream in ("RT", "PRES", "CTL", "EVENTS")
        ]

    assert rooms == [1024**3, 1024**3 // 4, 1024**3 // 4, 4 * 1024**3]
    assert account["reserved_storage"] == sum(rooms)
    assert sum(rooms) < min(_bytes(shipped), _bytes(claimed))
