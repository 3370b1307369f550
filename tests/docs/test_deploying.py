"""nginx, as docs/deploying.md sets it up, before two gateways."""

import asyncio
import json
import re
import secrets
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from websockets.asyncio.client import connect

from hubbub_client.nats.client import Bus
from hubbub_client.tokens import connection_token
from tests.fixtures.certificates import Authority
from tests.fixtures.ports import free_ports
from tests.fixtures.skipping import skip
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway, a_gateway
from tests.gateway.serving import until

TEXT = (Path(__file__).resolve().parents[2] / "docs/deploying.md").read_text()
[SERVER] = re.findall(r"```nginx\n(.*?)```", TEXT, re.DOTALL)
DEADLINE_SECONDS = 10.0


@asynccontextmanager
async def nginx(folder: Path, *, port: int, replacing: dict[str, str]) -> AsyncGenerator[None]:
    """The server of the document; of its words only names of this machine are replaced."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        skip("there is no nginx on this machine")
    server = SERVER
    for there, here in replacing.items():
        assert there in server
        server = server.replace(there, here)
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings = f"events {{}}\nhttp {{\naccess_log off;\n{folders}{server}}}\n"
    (folder / "nginx.conf").write_text(settings)
    here = f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
    process = await asyncio.create_subprocess_exec(
        *(found, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr", "-g", here)
    )
    try:
        await until(lambda: listens(port))
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_browsers_reach_gateways_through_it_and_those_that_remain_when_one_leaves(
    nats_url: str, bus: Bus, tmp_path: Path
) -> None:
    authority, port = Authority(tmp_path), free_ports()
    certificate, key = authority.sign("localhost")
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    at_nginx = f"localhost:{port}"

    async def connect_a_tab(stack: AsyncExitStack) -> None:
        token = connection_token(secrets.token_hex(8), secret=SECRET)
        url = f"wss://{at_nginx}/connection/websocket"
        tab = await stack.enter_async_context(connect(url, ssl=trusting))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await tab.send(json.dumps({"id": 1, "connect": {"token": token}}))
            assert "error" not in json.loads(await tab.recv())

    async with (
        a_gateway(nats_url, hmac_secret=SECRET) as staying,
        AsyncExitStack() as tabs,
        AsyncExitStack() as life_of_the_other,
    ):
        leaving = await life_of_the_other.enter_async_context(
            a_gateway(nats_url, hmac_secret=SECRET)
        )
        async with nginx(
            tmp_path,
            port=port,
            replacing={
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "live.example.com;": "localhost;",
                "/etc/ssl/live.example.com.pem": str(certificate),
                "/etc/ssl/live.example.com.key": str(key),
                "127.0.0.1:8003": f"127.0.0.1:{staying.port}",
                "127.0.0.1:8004": f"127.0.0.1:{leaving.port}",
            },
        ):
            for _ in range(4):
                await connect_a_tab(tabs)
            shares = [connections_of(each) for each in (staying, leaving)]
            async with httpx2.AsyncClient(verify=trusting, trust_env=False) as http:
                first = await first_event(http, f"https://{at_nginx}/connection/uni_sse")
                hidden = await http.post(f"https://{at_nginx}/api/info", json={})
            await life_of_the_other.aclose()
            await connect_a_tab(tabs)
            await until(lambda: connections_of(staying) == 3)

    assert shares == [2, 2]
    assert "connect" in first
    assert hidden.status_code == 404


def connections_of(gateway: RunningGateway) -> float:
    return gateway.metric("hubbub_connections")


async def first_event(http: httpx2.AsyncClient, url: str) -> Any:
    """What a stream says first, which no buffer holds back."""
    asked = json.dumps({"token": connection_token(secrets.token_hex(8), secret=SECRET)})
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        http.stream("GET", f"{url}?cf_connect={quote(asked)}") as stream,
    ):
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended without a word")
