"""`hubbub up` as a newcomer meets it: one command, a working system, a clean end."""

import json
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from hubbub.data_folder import take_lock
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.publishing import publish as publish_on_bus
from hubbub_client.nats.client import BusUnavailable, connect_bus
from shared.web.page_headers import PAGE_HEADERS
from tests.fixtures import plain_http
from tests.fixtures.waiting import eventually
from tests.system.processes import HubbubProcess, Processes, is_gone, processes_in, until
from tools.contracts import OPENAPI

ADA = {"username": "ada@example.com", "password": "hubbub-demo"}
STOP_SECONDS = 15.0
"""The promise; from the signal to the end, with clients connected."""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubbubProcess]:
    """A running system for all tests that only look at it."""
    home = tmp_path_factory.mktemp("standing")
    with processes_in(home) as started:
        system = started.up(data=home / 'jürgen\'s "feature%2Fx", what? $HOME #1' / "data")
        system.until_ready()
        yield system


@pytest.fixture
def up(processes: Processes) -> HubbubProcess:
    """A running system on a fresh data folder."""
    system = processes.up()
    system.until_ready()
    return system


@pytest.fixture
def data(processes: Processes) -> Path:
    """The folder that `Processes.up` uses."""
    return processes.home / "data"


def sign_in(system: HubbubProcess) -> httpx2.Response:
    return plain_http.post(f"{system.url}/auth/token", data=ADA)


@contextmanager
def chat(
    system: HubbubProcess, token: str, *, port: int | None = None
) -> Iterator[ClientConnection]:
    """A tab in the lobby that was welcomed."""
    url = f"ws://{system.host}:{port or system.port}/ws/chat?token={token}"
    with connect(url, proxy=None, open_timeout=20) as tab:
        assert json.loads(tab.recv(timeout=20))["type"] == "welcome"
        yield tab


@contextmanager
def deaf_chat(system: HubbubProcess, token: str, *, port: int | None = None) -> Iterator[None]:
    """A tab that was welcomed and neither reads nor answers any more."""
    with socket.create_connection((system.host, port or system.port)) as tab:
        tab.sendall(
            f"GET /ws/chat?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        received = b""
        while b'"welcome"' not in received:
            received += tab.recv(65536)
        yield


def stopped_within(system: HubbubProcess, stop: Callable[[], None]) -> tuple[int, float]:
    """Exit status, and seconds from the signal to it."""
    started = time.monotonic()
    stop()
    status = system.wait(seconds=20)
    return status, time.monotonic() - started


def children_of(system: HubbubProcess) -> list[psutil.Process]:
    return psutil.Process(system.process.pid).children(recursive=True)


def nats_of(system: HubbubProcess, data: Path) -> psutil.Process:
    return psutil.Process(int((data / "nats" / "nats.pid").read_text()))


def test_it_says_where_everything_is_and_what_it_says_is_true(standing: HubbubProcess) -> None:
    standing.until_logged("key of /api")

    assert f"Hubbub 0.1.0 is ready: {standing.url}\n" in standing.log
    emails = "ada@example.com or, in a private window, grace@example.com"
    assert f"{emails}, password hubbub-demo" in standing.log
    assert f"data              {data_of(standing)}\n" in standing.log
    assert sign_in(standing).status_code == 200
    page = plain_http.get(standing.url)
    assert page.headers["content-type"].startswith("text/html")
    assert plain_http.get(f"{standing.url}/web/app.js").status_code == 200


def test_it_serves_the_published_documents_and_its_page_with_the_headers_of_the_edge(
    standing: HubbubProcess,
) -> None:
    described = plain_http.get(f"{standing.url}/openapi.json").json()
    answers = [plain_http.get(f"{standing.url}{path}") for path in ("/", "/web/app.js", "/docs")]

    assert described == json.loads(OPENAPI.read_text())
    for answer in answers:
        assert {name: answer.headers.get(name) for name in PAGE_HEADERS} == PAGE_HEADERS


def test_its_data_folder_may_be_called_anything(standing: HubbubProcess) -> None:
    folder = data_of(standing)

    databases = standing.log_file.parent.rglob("*.sqlite3")

    assert {file.name for file in databases if file.parent == folder} == {
        "auth.sqlite3",
        "posts.sqlite3",
    }


def data_of(system: HubbubProcess) -> Path:
    """The folder on its command line."""
    return Path(system.arguments[system.arguments.index("--data") + 1])


def test_what_it_writes_is_for_its_owner_alone(standing: HubbubProcess) -> None:
    data = data_of(standing)
    modes = {file: stat.S_IMODE(file.stat().st_mode) for file in data.rglob("*") if file.is_file()}

    assert {data / "api_key", data / "signing_key.pem", data / "auth.sqlite3"} <= set(modes)
    assert [file for file, mode in modes.items() if mode & 0o077] == []


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C", "Ctrl-C for ever"])
def test_it_stops_in_order_with_clients_connected(how: str, up: HubbubProcess, data: Path) -> None:
    token = sign_in(up).json()["access_token"]
    started = children_of(up)
    with ExitStack() as tabs:
        tab = tabs.enter_context(chat(up, token))
        tabs.enter_context(deaf_chat(up, token))

        def stop() -> None:
            if how == "SIGTERM":
                up.signal(signal.SIGTERM)
                return
            up.interrupt()
            while how == "Ctrl-C for ever" and up.process.poll() is None:
                up.interrupt()
                time.sleep(0.01)

        status, seconds = stopped_within(up, stop)

        assert (status, seconds < STOP_SECONDS) == (0, True), f"{seconds} s\n{up.log}"
        with suppress(ConnectionClosed):
            list(tab)
        assert (tab.close_code, tab.close_reason) == (1012, "restarting")
    assert "Traceback" not in up.log
    assert [process for process in started if not is_gone(process)] == []
    assert not (data / "running.json").exists()


def test_a_signal_ends_a_start_that_takes_long(processes: Processes, data: Path) -> None:
    (data / "nats").mkdir(parents=True)
    held = take_lock(data / "nats" / "lock")  # so nats-server waits for its predecessor's end
    assert held is not None
    system = processes.up()
    system.until_logged("… starting nats-server")

    status, seconds = stopped_within(system, lambda: system.signal(signal.SIGTERM))

    os.close(held)
    assert (status, seconds < STOP_SECONDS) == (0, True), system.log
    assert "Traceback" not in system.log
    assert system.log.endswith("… starting nats-server\n")


def test_a_second_one_on_the_same_folder_is_told_who_has_it(
    standing: HubbubProcess, processes: Processes
) -> None:
    second = processes.up(data=data_of(standing))

    assert second.wait(seconds=30) == 1
    pid = standing.process.pid
    assert f"is in use by process {pid} ({standing.url})" in second.log.splitlines()[-1]
    assert "Traceback" not in second.log
    standing.until_ready()


def test_the_other_commands_find_it_by_its_data_folder(
    standing: HubbubProcess, processes: Processes
) -> None:
    place = ["--data", str(data_of(standing))]

    published = processes.start("publish", "chat:elsewhere", '{"n": 1}', *place)
    assert published.wait(seconds=30) == 0, published.log
    listening = processes.start("tail", "chat:elsewhere", "--from-start", *place)
    token = processes.start("token", "--user", "7", *place)
    assert token.wait(seconds=30) == 0, token.log

    listening.until_logged('"data":{"n":1}')
    boot = processes.start("bootstrap", *place)
    assert boot.wait(seconds=30) == 0, boot.log
    me = {"Authorization": f"Bearer {token.log.strip()}"}
    assert plain_http.get(f"{standing.url}/posts", headers=me).status_code == 200


async def test_an_application_publishes_on_its_bus_with_what_lies_in_the_data_folder(
    standing: HubbubProcess,
) -> None:
    standing.until_logged("bus, by hand")
    data = data_of(standing)
    file = data / "bus/application_url"
    assert f"  bus, application  {file}\n" in standing.log
    assert f"  bus, by hand      {data / 'bus/operator_url'}\n" in standing.log
    [address] = re.findall(r"^  bus +(nats://\S+)$", standing.log, re.MULTILINE)

    async with (
        connect_bus(file.read_text().strip(), name="application") as bus,
        start_publisher(bus) as publisher,
    ):
        await publish_on_bus(publisher, room_channel("lobby"), {"text": "hi"}, key="k")
    async with (
        connect_bus(address, name="publish") as stranger,
        start_publisher(stranger) as nobodys,
    ):
        with pytest.raises(BusUnavailable):
            await nobodys.publish(
                publication_subject(room_channel("lobby")),
                b"{}",
                message_id="forged",
                deadline_seconds=1,
            )
        bus_log = data / "nats/nats.log"
        await eventually(lambda: "authentication error" in bus_log.read_text())


def test_its_services_do_nothing_on_the_bus_that_they_may_not(standing: HubbubProcess) -> None:
    token = sign_in(standing).json()["access_token"]
    me = {"Authorization": f"Bearer {token}"}
    with chat(standing, token) as tab:
        tab.send(json.dumps({"type": "message", "id": "1", "body": "hello"}))
        until(lambda: json.loads(tab.recv(timeout=20))["type"] == "ack")
        post = plain_http.post(
            f"{standing.url}/posts", json={"title": "t", "body": "b"}, headers=me
        )
    assert post.status_code == 201
    assert plain_http.post(f"{standing.url}/auth/logout", headers=me).status_code == 204

    assert "iolation" not in (data_of(standing) / "nats/nats.log").read_text()


def test_a_taken_port_is_a_sentence(standing: HubbubProcess, processes: Processes) -> None:
    second = processes.up(port=standing.port)

    assert second.wait(seconds=30) == 1
    assert second.log.splitlines()[-1] == (
        f"Error: cannot listen on 127.0.0.1:{standing.port}: Address already in use"
    )


def test_what_it_held_is_there_after_a_kill_and_a_new_start(
    up: HubbubProcess, processes: Processes, data: Path
) -> None:
    token = sign_in(up).json()["access_token"]
    with chat(up, token) as tab:
        tab.send(json.dumps({"type": "message", "id": "1", "body": "kept"}))
        until(lambda: json.loads(tab.recv(timeout=20))["type"] == "ack")
    nats = nats_of(up, data)
    up.kill()

    again = processes.up()
    again.until_ready()

    assert is_gone(nats)
    url = f"{again.ws_url}/ws/chat?history=1&token={token}"
    with connect(url, proxy=None, open_timeout=20) as tab:
        tab.recv(timeout=20)
        assert json.loads(tab.recv(timeout=20))["body"] == "kept"


def test_a_killed_nats_server_is_started_again_and_the_system_goes_on(
    up: HubbubProcess, data: Path
) -> None:
    token = sign_in(up).json()["access_token"]
    with chat(up, token) as tab:
        nats_of(up, data).kill()

        until(lambda: is_stored(tab, "still here"))

    up.until_ready()


def is_stored(tab: ClientConnection, body: str) -> bool:
    """Say it; while the bus is away the answer is that it can be said again, under the same id."""
    tab.send(json.dumps({"type": "message", "id": body, "body": body}))
    while (answer := json.loads(tab.recv(timeout=20))).get("id") != body:
        pass
    if answer["type"] == "ack":
        return True
    assert answer["code"] == "unavailable", answer
    return False


def test_what_the_environment_says_of_another_bus_is_not_for_the_further_gateways(
    processes: Processes,
) -> None:
    other = {"HUBBUB_NATS_CA": "/nowhere/ca.pem", "HUBBUB_NATS_CREDS": "/nowhere/creds"}
    system = processes.up(gateways=2, env=other)

    system.until_ready()
    system.until_logged("further gateways")


def test_a_killed_gateway_is_started_again_and_none_is_left_at_the_end(
    processes: Processes,
) -> None:
    system = processes.up(gateways=2)
    system.until_ready()
    system.until_logged("further gateways")
    second = system.port + 1
    token = sign_in(system).json()["access_token"]
    [gateway] = [each for each in children_of(system) if "gateway" in each.cmdline()]
    with chat(system, token, port=second):
        pass
    assert plain_http.get(f"http://127.0.0.1:{second}/").status_code == 404

    gateway.kill()

    until(lambda: is_ready(second), why="the gateway is back")
    started = children_of(system)
    assert gateway not in started
    with chat(system, token, port=second), deaf_chat(system, token, port=second):
        status, seconds = stopped_within(system, system.interrupt)
    assert (status, seconds < STOP_SECONDS) == (0, True), f"{seconds} s\n{system.log}"
    assert [process for process in started if not is_gone(process)] == []
    assert "Traceback" not in system.log


def is_ready(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        answer = plain_http.get(url, timeout=1)
    except httpx2.HTTPError:
        return False
    return answer.status_code == 200


def test_nothing_outlives_it_when_it_is_killed(processes: Processes) -> None:
    system = processes.up(gateways=2)
    system.until_ready()
    system.until_logged("further gateways")
    started = children_of(system)

    system.kill()

    until(lambda: all(map(is_gone, started)), why=f"all of {started} are gone")


def test_the_demo_users_are_for_this_machine_alone(processes: Processes) -> None:
    with_users = processes.up()
    with_users.until_ready()
    assert sign_in(with_users).status_code == 200
    assert with_users.stop() == 0

    open_to_all = processes.up("--host", "0.0.0.0")
    open_to_all.until_ready()

    open_to_all.until_logged("is ready: ")
    assert "ada@example.com" not in open_to_all.log
    assert "the demo users are deleted, as others may reach 0.0.0.0" in open_to_all.log
    assert sign_in(open_to_all).status_code == 401


def test_a_key_of_the_environment_is_the_one_of_the_api(processes: Processes, data: Path) -> None:
    system = processes.up(env={"HUBBUB_API_KEY": "from the environment"})
    system.until_ready()

    answers = [publish(system, key) for key in ("from the environment", "another")]

    assert [answer.status_code for answer in answers] == [200, 401]


def publish(system: HubbubProcess, key: str) -> httpx2.Response:
    body = {"channel": "chat:lobby", "data": 1}
    return plain_http.post(f"{system.url}/api/publish", json=body, headers={"X-API-Key": key})


def test_no_key_and_no_token_is_in_its_log_or_its_children_arguments(
    processes: Processes, data: Path
) -> None:
    system = processes.up(gateways=2)
    system.until_ready()
    system.until_logged("further gateways")
    token = sign_in(system).json()["access_token"]
    with chat(system, token, port=system.port + 1):
        pass
    assert publish(system, (data / "api_key").read_text().strip()).status_code == 200

    arguments = " ".join(" ".join(child.cmdline()) for child in children_of(system))

    password = urlsplit((data / "bus/gateway_url").read_text()).password or ""
    for secret in (token, (data / "api_key").read_text().strip(), password, "BEGIN PRIVATE"):
        assert secret not in system.log
        assert secret not in arguments
    assert os.environ.get("HUBBUB_API_KEY") is None
