"""Open files: all that a process may have, and never all of them for those who connect."""

import resource
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio.to_thread
import psutil
import pytest

from tests.fixtures import plain_http
from tests.fixtures.nats import NatsServer
from tests.fixtures.ports import free_ports
from tests.system.conftest import SECRET, a_token, make_streams, make_tables
from tests.system.processes import HubbubProcess, Processes, until
from tests.system.tab import open_tab

FEW = 200
A_POST = {"title": "Hello", "body": "world"}

on_linux = pytest.mark.skipif(
    not hasattr(psutil.Process, "rlimit"), reason="psutil tells the limit on Linux only"
)


def service_with_few_files(
    name: str, processes: Processes, *, env: Mapping[str, str], may_raise: bool = False
) -> HubbubProcess:
    """Started by a shell that allows few open files; the service may have more if it asks."""
    script, port = processes.home / f"{name}.sh", free_ports()
    limit = f"ulimit {'-S' if may_raise else ''} -n {FEW}"
    script.write_text(f'#!/bin/sh\n{limit}\nexec {shlex.quote(sys.executable)} -m hubbub "$@"\n')
    script.chmod(0o700)
    place = ("--host", "127.0.0.1", "--port", str(port))
    return processes.start(name, *place, env=env, port=port, script=script)


@on_linux
def test_a_gateway_takes_all_the_open_files_that_it_may_have(processes: Processes) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gateway = service_with_few_files(
        "gateway", processes, env={"HUBBUB_HMAC_SECRET": SECRET}, may_raise=True
    )

    limits = psutil.Process(gateway.process.pid).rlimit

    until(lambda: limits(psutil.RLIMIT_NOFILE) == (hard, hard), why=gateway.log)


def silent_peers(of: HubbubProcess, count: int) -> list[socket.socket]:
    """Connections that send nothing, or half a head."""
    peers = [socket.create_connection(("127.0.0.1", of.port)) for _ in range(count)]
    for peer in peers[::3]:
        peer.send(b"GET /livez HTTP/1.1\r\n")
    return peers


@on_linux
async def test_peers_who_say_nothing_leave_the_files_for_the_bus_and_the_database(
    processes: Processes, nats_server: Callable[[], NatsServer], tmp_path: Path
) -> None:
    nats = nats_server()
    environment = {
        "HUBBUB_NATS_URL": nats.url,
        "HUBBUB_HMAC_SECRET": SECRET,
        "HUBBUB_DATABASE_URL": f"sqlite:///{tmp_path / 'posts.db'}",
    }
    await anyio.to_thread.run_sync(make_streams, nats.url)
    await anyio.to_thread.run_sync(make_tables, environment["HUBBUB_DATABASE_URL"], "posts_service")
    gateway, posts = [
        service_with_few_files(each, processes, env=environment) for each in ("gateway", "posts")
    ]
    for each in (gateway, posts):
        each.until_ready()
    with ExitStack() as open_peers:
        for each in (gateway, posts):
            for peer in silent_peers(each, FEW):
                open_peers.enter_context(peer)
        nats.kill()
        until(lambda: not gateway.is_ready())
        nats.start()
        until(gateway.is_ready, seconds=10, why="the gateway has a socket for the bus")

        async with (
            open_tab(gateway.ws_url, a_token(1, "Ann")) as ann,
            plain_http.client(base_url=posts.url) as client,
        ):
            ann_says, bob_says = (
                {"Authorization": f"Bearer {a_token(*who)}"} for who in ((1, "Ann"), (2, "Bob"))
            )
            post = (await client.post("/posts", json=A_POST, headers=ann_says)).json()
            await client.post(f"/posts/{post['id']}/like", headers=bob_says)
            await ann.until(lambda frame: frame["type"] == "notification")
