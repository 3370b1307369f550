import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from hubbub.data_folder import take_lock
from hubbub.nats_child import MAX_PAYLOAD_BYTES, NatsServerFailed, nats_server, store_room
from hubbub_client.nats.client import connect_bus
from tests.system.processes import is_gone, until

PARENT = """
import asyncio, sys
from pathlib import Path
from hubbub.nats_child import nats_server
from shared.runtime.process import run

async def main():
    async with nats_server(Path(sys.argv[1])) as server:
        print(server.url, server.pid_file.read_text(), flush=True)
        await asyncio.Event().wait()

run(main())
"""

StartParent = Callable[[Path], tuple[subprocess.Popen[str], psutil.Process]]


@pytest.fixture
def start_parent() -> Iterator[StartParent]:
    """Starts a process that keeps a nats-server; gives both."""
    parents: list[subprocess.Popen[str]] = []

    def start(home: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE, text=True
        )
        parents.append(parent)
        assert parent.stdout is not None
        _url, pid = parent.stdout.readline().split()
        return parent, psutil.Process(int(pid))

    yield start
    for parent in parents:
        parent.kill()
        parent.communicate()


async def soon(ask: Callable[[], object]) -> None:
    """Wait for the condition without blocking the loop."""
    await anyio.to_thread.run_sync(until, ask)


def test_the_server_dies_with_its_parent_however_that_dies(
    tmp_path: Path, start_parent: StartParent
) -> None:
    parent, server = start_parent(tmp_path)
    shell = server.parent()

    parent.kill()

    until(lambda: is_gone(server))
    assert shell is not None
    until(lambda: is_gone(shell))


def test_a_server_that_hangs_dies_with_its_parent_too(
    tmp_path: Path, start_parent: StartParent
) -> None:
    parent, server = start_parent(tmp_path)
    server.suspend()

    parent.kill()

    until(lambda: is_gone(server))


def test_the_next_one_waits_until_the_store_is_let_go_of(
    tmp_path: Path, start_parent: StartParent
) -> None:
    parent, first = start_parent(tmp_path)
    first.suspend()  # its end takes seconds now
    parent.kill()
    assert take_lock(tmp_path / "lock") is None

    _, second = start_parent(tmp_path)

    assert is_gone(first)
    assert not is_gone(second)


async def test_the_terminals_signals_do_not_reach_it(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server:
        pid = int(server.pid_file.read_text())

        assert os.getpgid(pid) != os.getpgid(0)
        assert os.getsid(pid) != os.getsid(0)


async def test_a_killed_server_is_started_again_on_the_same_port_with_its_store(
    tmp_path: Path,
) -> None:
    async with (
        nats_server(tmp_path / "nats") as server,
        connect_bus(server.url_of("gateway"), name="gateway") as bus,
    ):
        await bus.until_connected()
        address, pid = server.url, server.pid_file.read_text()
        down = anyio.Event()
        bus.on_disconnected(down.set)

        os.kill(int(pid), signal.SIGKILL)
        with anyio.fail_after(20):
            await down.wait()
            await bus.until_connected()

        assert server.url == address
        assert server.pid_file.read_text() != pid


async def test_a_server_whose_shell_is_killed_is_replaced_and_not_doubled(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server:
        first = psutil.Process(int(server.pid_file.read_text()))
        shell = first.parent()
        assert shell is not None

        shell.kill()
        await soon(lambda: server.pid_file.exists() and _pid(server.pid_file) != first.pid)

        assert is_gone(first)


def _pid(file: Path) -> int:
    return int(file.read_text() or 0)


async def test_a_server_that_hangs_at_the_end_is_killed_though_who_stops_it_was_cancelled(
    tmp_path: Path,
) -> None:
    started = anyio.Event()

    async def serve() -> None:
        async with nats_server(tmp_path / "nats") as server:
            process = processes[0] = psutil.Process(int(server.pid_file.read_text()))
            process.suspend()
            started.set()
            await anyio.sleep_forever()

    processes: dict[int, psutil.Process] = {}
    with anyio.fail_after(20):
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve())
            await started.wait()
            serving.cancel()

    until(lambda: is_gone(processes[0]))  # a signal is on its way when its sender goes on


async def test_nothing_is_left_when_it_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "nats"
    async with nats_server(home) as server:
        process = psutil.Process(int(server.pid_file.read_text()))
        async with connect_bus(server.url_of("gateway"), name="gateway") as bus:
            await bus.until_connected()
            max_payload = bus.max_payload

    assert is_gone(process)
    assert max_payload == MAX_PAYLOAD_BYTES
    assert (home / "jetstream").is_dir()


async def test_the_folder_may_have_any_name(tmp_path: Path, folder_name: str) -> None:
    home = tmp_path / folder_name
    home.mkdir()
    async with (
        nats_server(home) as server,
        connect_bus(server.url_of("gateway"), name="gateway") as bus,
    ):
        with anyio.fail_after(20):
            await bus.until_connected()

        assert (home / "jetstream").is_dir()


def test_the_room_of_a_store_is_counted_while_its_files_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "jetstream/streams"
    folder.mkdir(parents=True)
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            file = folder / "made/1.blk"
            file.parent.mkdir()
            file.write_bytes(b"")
            file.unlink()
            file.parent.rmdir()

    with ThreadPoolExecutor(1) as others:
        churning = others.submit(churn)
        try:
            assert all(store_room(tmp_path) > 0 for _ in range(2000))
        finally:
            ended.set()
        churning.result()


async def test_a_store_that_stays_in_use_is_a_sentence(tmp_path: Path) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None

    with pytest.raises(NatsServerFailed, match="another nats-server still uses"):
        async with nats_server(tmp_path, predecessor_seconds=0.05):
            pass
    os.close(held)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("in the way")

    with pytest.raises(NatsServerFailed, match="did not start: Can't start JetStream"):
        async with nats_server(tmp_path):
            pass
