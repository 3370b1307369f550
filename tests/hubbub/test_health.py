"""The probe against real services and against none."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubbub.health import reason_against
from tests.fixtures.ports import free_ports
from tests.hubbub.test_cli import SECRET, hubbub
from tests.system.processes import READY_SECONDS, HubbubProcess, Processes, processes_in, until

PROBE_AND_TELL = """
import sys
from hubbub.cli import cli
try:
    cli(["health", "--port", "1"])
finally:
    print(*sys.modules)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with processes_in(tmp_path) as started:
        yield started


def until_alive(service: HubbubProcess) -> None:
    until(lambda: reason_against(service.host, service.port, "/livez") is None)


def probed(*options: str) -> subprocess.CompletedProcess[str]:
    """What is said of a service that answers, if not at once."""

    deadline = time.monotonic() + READY_SECONDS
    while (done := hubbub("health", *options)).stderr.startswith("no answer within"):
        assert time.monotonic() < deadline, done.stderr
    return done


def test_a_gateway_without_a_bus_is_alive_and_not_ready_and_why_is_one_line(
    processes: Processes,
) -> None:
    nowhere = f"nats://127.0.0.1:{free_ports()}"
    env = {"HUBBUB_NATS_URL": nowhere, "HUBBUB_HMAC_SECRET": SECRET}
    gateway = processes.service("gateway", env=env)
    until_alive(gateway)

    alive = probed("--port", str(gateway.port), "--path", "/livez")
    ready = probed("--port", str(gateway.port))

    assert (alive.returncode, alive.stdout, alive.stderr) == (0, "", "")
    assert (ready.returncode, ready.stdout) == (1, "")
    assert ready.stderr.startswith("the bus is not connected")
    assert ready.stderr.count("\n") == 1


def test_what_answers_something_else_is_not_healthy(processes: Processes) -> None:
    gateway = processes.service("gateway", env={"HUBBUB_HMAC_SECRET": SECRET})
    until_alive(gateway)

    done = probed("--port", str(gateway.port), "--path", "/nowhere")

    assert (done.returncode, done.stderr) == (1, "Not Found\n")


def test_nobody_there_is_not_healthy() -> None:
    done = hubbub("health", "--port", str(free_ports()))

    assert (done.returncode, done.stderr) == (1, "no answer: Connection refused\n")


def test_a_host_that_can_be_nobodys_is_not_healthy() -> None:
    done = hubbub("health", "--host", "bücher..example")

    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_who_never_answers_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = hubbub("health", "--port", str(listener.getsockname()[1]))

    assert (done.returncode, done.stderr) == (1, "no answer within 2 s\n")


def test_who_speaks_something_else_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        answering = threads.submit(speak_something_else, listener)
        done = hubbub("health", "--port", str(listener.getsockname()[1]))
        answering.result()

    assert done.returncode == 1
    assert done.stderr.startswith("no answer: BadStatusLine(")
    assert done.stderr.count("\n") == 1


def speak_something_else(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"SSH-2.0-hello\r\n")
        connection.recv(4096)


def test_the_probe_loads_nothing_that_takes_long() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE_AND_TELL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    loaded = set(done.stdout.split())
    assert "hubbub.health" in loaded
    assert loaded.isdisjoint({"asyncio", "fastapi", "nats", "pydantic", "sqlalchemy", "uvicorn"})
