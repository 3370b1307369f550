"""Signing in to servers that ask who one is, and that one asks in turn."""

import asyncio
import json
import socket
from functools import partial
from pathlib import Path

import pytest

from hubbub_client.nats.address import credentials_of
from hubbub_client.nats.client import connect_bus
from tests.fixtures.certificates import Authority
from tests.fixtures.nats import StartServer
from tests.fixtures.nats_credentials import Key, credentials_file
from tests.fixtures.ports import free_ports
from tests.fixtures.waiting import eventually


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        (["nats://a:4222"], (None, None)),
        (["nats://token@a:4222"], (None, None)),
        (["nats://me:pass@a:4222", "nats://b:4222"], ("me", "pass")),
        (["nats://b:4222", "nats://m%40e:p%2F%3Aw@a:4222"], ("m@e", "p/:w")),
        (["nats://[::1", "tls://me:pass@a"], ("me", "pass")),
    ],
)
def test_one_url_names_the_user_for_all(
    servers: list[str], expected: tuple[str | None, str | None]
) -> None:
    assert credentials_of(servers) == expected


async def test_servers_that_others_tell_of_are_signed_in_to_as_well(
    nats_server: StartServer,
) -> None:
    port = free_ports(2)
    users = "authorization { user: me, password: sesame }\n"
    first = nats_server(f"{users} cluster {{ name: c, listen: 127.0.0.1:{port} }}", jetstream=False)
    route = f'routes: ["nats://127.0.0.1:{port}"]'
    second = nats_server(
        f"{users} cluster {{ name: c, listen: 127.0.0.1:{port + 1}, {route} }}", jetstream=False
    )

    async with connect_bus(f"nats://me:sesame@127.0.0.1:{first.port}", name="test") as bus:
        await bus.until_connected()
        heard: list[bytes] = []
        await eventually(lambda: _tells_of(second.port, first.port))
        await bus.subscribe("a", lambda _s, payload, _h, _r: heard.append(payload))
        bus.send("a", b"behind what the server told")
        await eventually(lambda: bool(heard))
        heard.clear()
        again = asyncio.Event()
        bus.on_connected(again.set)
        first.stop()
        async with asyncio.timeout(10):
            await again.wait()
        bus.send("a", b"over the other")
        await eventually(lambda: heard == [b"over the other"])

    assert "authentication error" not in second.log


def _tells_of(other: int, port: int) -> bool:
    """Whether the server at a port tells its clients of another."""
    with socket.create_connection(("127.0.0.1", port)) as connected, connected.makefile() as lines:
        info = json.loads(lines.readline().removeprefix("INFO "))
    return any(url.endswith(f":{other}") for url in info.get("connect_urls", ()))


async def test_a_certificate_is_asked_for_again_until_it_is_right_at_first_and_after_a_loss(
    nats_server: StartServer, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "Another CA")
    files = [*other.sign("localhost"), *authority.sign("localhost")]
    wrong, right = (
        f'tls {{ cert_file: "{c}", key_file: "{k}" }}' for c, k in (files[:2], files[2:])
    )
    server = nats_server(wrong, jetstream=False)

    def refusals() -> int:
        return server.log.count("TLS handshake error")

    def refused_since(before: int) -> bool:
        return refusals() >= before + 3

    async with connect_bus(
        f"tls://localhost:{server.port}", name="test", ca=authority.certificate
    ) as bus:
        for _ in range(2):
            await eventually(partial(refused_since, refusals()))
            assert not bus.connected
            server.reload(right)
            await eventually(lambda: bus.connected)
            server.stop()
            server.config.write_text(wrong)
            server.start()


async def test_a_file_of_credentials_signs_in(nats_server: StartServer, tmp_path: Path) -> None:
    operator, account, user = Key("operator"), Key("account"), Key("user")
    accounts = json.dumps({account.public: operator.vouch_for(account)})
    config = f"operator: {operator.vouch_for(operator)}\n"
    server = nats_server(f"{config} resolver: MEMORY\nresolver_preload {accounts}", jetstream=False)
    creds, foreign = tmp_path / "user.creds", tmp_path / "foreign.creds"
    creds.write_text(credentials_file(user, account))
    foreign.write_text(credentials_file(user, Key("account")))

    async with connect_bus(server.url, name="test", creds=creds) as bus:
        await eventually(lambda: bus.connected)
    async with connect_bus(server.url, name="test", creds=foreign) as bus:
        await eventually(lambda: server.log.count("authentication error") > 1)
        assert not bus.connected
