"""Who a service takes for its caller, behind a proxy that it trusts and without one."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect

from gateway.transport.frames import text_frame
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from gateway.transport.upgrade import Upgrade
from shared.runtime.listening import listen
from shared.runtime.process import Server, server_config
from shared.runtime.settings import ServiceSettings
from tests.auth_service.people import SIGNING_KEY
from tests.fixtures import plain_http
from tests.fixtures.waiting import eventually
from tests.gateway.transport.sockets import Echo
from tests.gateway.transport.transports import some_limits
from tests.system.conftest import make_tables
from tests.system.processes import HubbubProcess, Processes

TRUSTED = "127.0.0.0/8"
"""A network that the tests, as the proxy, are in."""
OTHERS = "10.0.0.0/8, fd00::/8"
CALLER = "203.0.113.7"


async def _http(request: Request) -> Response:
    assert request.client is not None
    return JSONResponse({"client": request.client.host, "scheme": request.url.scheme})


def _websocket(upgrade: Upgrade) -> None:
    client = json.dumps(upgrade.client_host)
    upgrade.accept(Echo).connection.send(text_frame(client.encode()))


@asynccontextmanager
async def _told_whom_it_sees(proxies: str) -> AsyncGenerator[int]:
    """An application, served as a gateway is, that tells its callers who they are."""
    app = Starlette(routes=[Route("/", _http)])
    trusting = ServiceSettings(forwarded_allow_ips=proxies).forwarded_allow_ips
    options = websocket_options(Hub(some_limits()), {"/ws": _websocket})
    stop = asyncio.Event()
    with listen("127.0.0.1", 0) as taken:
        config = server_config(app, forwarded_allow_ips=trusting, **options)
        server = Server(config, stop=stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[taken]))
            await eventually(lambda: server.started)
            yield taken.getsockname()[1]
            stop.set()


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client", "secure"),
    [
        (TRUSTED, CALLER, CALLER, True),
        # What a caller says is left of what the proxy added, and is not believed.
        (TRUSTED, f"192.0.2.1, {CALLER}", CALLER, True),
        (TRUSTED, f"192.0.2.1, {CALLER}, 127.0.0.2", CALLER, True),
        (OTHERS, CALLER, "127.0.0.1", False),
        ("", CALLER, "127.0.0.1", False),
    ],
)
async def test_only_what_a_trusted_proxy_forwards_is_believed(
    proxies: str, forwarded: str, client: str, secure: bool
) -> None:
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
    async with _told_whom_it_sees(proxies) as port:
        url = f"http://127.0.0.1:{port}/"
        async with plain_http.client() as http:
            over_http = (await http.get(url, headers=headers)).json()
        async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers) as socket:
            over_websocket = json.loads(await socket.recv())

    assert over_http == {"client": client, "scheme": "https" if secure else "http"}
    assert over_websocket == client


def _auth_service(processes: Processes, home: Path, *, proxies: str) -> HubbubProcess:
    (home / "key.pem").write_text(SIGNING_KEY)
    environment = {
        "HUBBUB_DATABASE_URL": f"sqlite:///{home / 'auth.db'}",
        "HUBBUB_AUTH_SIGNING_KEY_FILE": str(home / "key.pem"),
        "HUBBUB_AUTH_FAILURES_PER_ADDRESS": "2",
        "HUBBUB_FORWARDED_ALLOW_IPS": proxies,
    }
    make_tables(environment["HUBBUB_DATABASE_URL"], "auth_service")
    service = processes.service("auth", env=environment)
    service.until_ready()
    return service


def _status_of_a_guess(service: HubbubProcess, number: int, address: str) -> int:
    form = {"username": f"user-{number}@example.com", "password": "a wrong guess"}
    headers = {"X-Forwarded-For": address}
    answer = plain_http.post(f"{service.url}/auth/token", data=form, headers=headers)
    return answer.status_code


def test_failed_sign_ins_are_counted_by_the_address_that_the_proxy_tells_of(
    processes: Processes, tmp_path: Path
) -> None:
    service = _auth_service(processes, tmp_path, proxies=TRUSTED)

    guesses = [_status_of_a_guess(service, number, CALLER) for number in range(3)]
    elsewhere = _status_of_a_guess(service, 3, "203.0.113.8")
    made_up = _status_of_a_guess(service, 4, f"192.0.2.1, {CALLER}")

    assert (guesses, elsewhere, made_up) == ([401, 401, 429], 401, 429)


def test_nobody_but_the_proxy_escapes_the_count_by_making_up_addresses(
    processes: Processes, tmp_path: Path
) -> None:
    service = _auth_service(processes, tmp_path, proxies=OTHERS)

    guesses = [_status_of_a_guess(service, number, f"203.0.113.{number}") for number in range(3)]

    assert guesses == [401, 401, 429]
