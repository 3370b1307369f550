"""What is installed gives what a checkout gives."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.fixtures.skipping import NOTHING_SKIPPED
from tests.installed.conftest import (
    ALONE,
    OFFLINE,
    README,
    ROOT,
    Installed,
    run_uv,
)
from tests.system.processes import HubbubProcess, Processes, processes_in

ANN = {"email": "ann@example.com", "name": "Ann", "password": "a long password"}
CONSTRAINTS = ROOT / "tests/requirements.txt"
GATEWAYS = 2
NOT_OURS = "raise AssertionError('this is the application, and nobody asked for it')"
APPLICATION = ("app.py", "gateway.py", "hubbub.py", "shared/__init__.py", "web/index.html")
"""Its files; some are called as ours are."""
SECONDS = 60


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody's application, in which `hubbub up` is typed."""
    folder = tmp_path_factory.mktemp("application")
    for name in APPLICATION:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(NOT_OURS)
    return folder


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as started:
        yield started


@pytest.fixture(scope="module")
def system(embedded: Installed, application: Path, processes: Processes) -> Iterator[HubbubProcess]:
    """It runs for all tests, and is stopped by one signal."""
    port = free_ports(GATEWAYS)
    options = ("--port", str(port), "--gateways", str(GATEWAYS))
    started = processes.start(
        "up", *options, port=port, env=ALONE, script=embedded.hubbub, cwd=application
    )
    started.until_logged("is ready")
    yield started
    assert started.stop() == 0


def signed_in(system: HubbubProcess) -> str:
    plain_http.post(f"{system.url}/auth/register", json=ANN)
    form = {"username": ANN["email"], "password": ANN["password"]}
    return str(plain_http.post(f"{system.url}/auth/token", data=form).json()["access_token"])


def body_received(tab: ClientConnection) -> object:
    """Of the next message, or of what a service published."""
    while True:
        frame = json.loads(tab.recv(timeout=SECONDS))
        if frame["type"] in ("message", "publication"):
            return frame.get("body", frame.get("data"))


def test_the_page_is_that_of_the_checkout(system: HubbubProcess) -> None:
    assert plain_http.get(system.url).text == (ROOT / "web/index.html").read_text()
    for file in (ROOT / "web").glob("*.*"):
        assert plain_http.get(f"{system.url}/web/{file.name}").content == file.read_bytes()


def test_who_registers_can_talk_over_all_gateways_and_hears_what_is_published(
    system: HubbubProcess, embedded: Installed, application: Path
) -> None:
    query = f"/ws/chat?token={signed_in(system)}"
    far = f"ws://{system.host}:{system.port + 1}{query}"
    with connect(f"{system.ws_url}{query}", proxy=None) as here, connect(far, proxy=None) as there:
        here.send(json.dumps({"type": "message", "body": "Hello"}))
        assert body_received(there) == "Hello"

        publish = [str(embedded.hubbub), "publish", "chat:lobby", '{"text": "hi"}']
        subprocess.run(publish, cwd=application, env=ALONE, check=True, timeout=SECONDS)
        assert body_received(there) == {"text": "hi"}


def test_all_that_it_keeps_is_where_it_was_started_and_git_leaves_it_alone(
    system: HubbubProcess, application: Path
) -> None:
    its_own = {name.partition("/")[0] for name in APPLICATION}

    assert {file.name for file in application.iterdir()} == {*its_own, ".hubbub"}
    assert (application / ".hubbub" / ".gitignore").read_text() == "*\n"
    assert f"data              {application}/.hubbub\n" in system.log


@pytest.mark.timeout(300)  # it installs, and compiles all that it imports
@pytest.mark.skipif(not NOTHING_SKIPPED, reason="it asks an index, and uv keeps what it makes")
def test_the_readmes_one_command_starts_it(
    wheel: Path, tmp_path: Path, processes: Processes
) -> None:
    [command] = re.findall(r"^uvx .*", README, re.MULTILINE)
    uvx, requirement, *arguments = shlex.split(command)
    known = {"UV_FIND_LINKS": str(wheel.parent), "UV_CONSTRAINT": str(CONSTRAINTS)}
    # Our processes reach nothing but each other, so what it takes is fetched before.
    run_uv("tool", "run", requirement, "--version", **known)
    env = {**ALONE, **OFFLINE, **known}
    port = free_ports()

    system = processes.start(
        requirement, *arguments, f"--port={port}", port=port, env=env, script=uvx, cwd=tmp_path
    )

    system.until_ready()
    assert plain_http.get(system.url).text == (ROOT / "web/index.html").read_text()
    assert system.stop() == 0


def test_without_a_server_up_says_how_to_get_one_and_leaves_nothing_behind(
    bare: Installed, tmp_path: Path
) -> None:
    done = subprocess.run(
        [bare.hubbub, "up"], cwd=tmp_path, env=ALONE, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith("Error: nats-server is not installed: start by `uvx ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    [command] = re.findall(r"`(.*)`", done.stderr)
    assert f"\n{command}\n" in README
