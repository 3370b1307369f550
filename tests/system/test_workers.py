"""`hubbub gateway --workers N`: one port, several gateways, one supervisor."""

import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures import plain_http
from tests.fixtures.nats import NatsServer
from tests.system.conftest import (
    SECRET,
    a_token,
    assert_no_secrets_and_no_tracebacks,
    make_streams,
)
from tests.system.processes import HubbubProcess, Processes, is_gone, processes_in, until
from tests.system.tab import Tab, open_tab, persistent_tab

pytestmark = pytest.mark.timeout(180)

COUNT = 2
START_SECONDS = 90.0
"""For three interpreters, on a machine that has two cores and other things to do."""
DRAIN_SECONDS = 3.0
SLACK_SECONDS = 7.0
"""For a machine that has other things to do."""
MOST_TRIES = 40
"""For a tab on the other worker: each try fails with even chances."""

ASKING_AT_ONCE = 12
"""So that some come to the worker that answers."""


@dataclass(frozen=True)
class Workers:
    """The supervisor of two workers, and what can be seen of them."""

    supervisor: HubbubProcess
    environment: dict[str, str]
    processes: Processes

    @property
    def ws_url(self) -> str:
        return self.supervisor.ws_url

    def pids(self) -> dict[str, int]:
        """By the worker's number."""
        return {socket.name: pid for socket, pid in self.pids_by_socket().items()}

    def pids_by_socket(self) -> dict[Path, int]:
        found = {}
        for child in psutil.Process(self.supervisor.process.pid).children():
            command = child.cmdline()
            if "--worker" in command:
                found[Path(command[command.index("--worker") + 1])] = child.pid
        return found

    def samples(self, name: str) -> dict[str, float]:
        """One metric by worker, as one request to whichever worker tells it."""
        return samples_in(self._metrics(), name)

    def connections(self) -> dict[str, int]:
        """As one request tells them; one in which a worker is left out, as it was late, is not."""
        told = until(self._told_by_all, why="all workers tell their metrics")
        return {number: int(value) for number, value in told.items()}

    def _metrics(self) -> str:
        return plain_http.get(f"{self.supervisor.url}/metrics", timeout=5).text

    def _told_by_all(self) -> dict[str, float]:
        try:
            text = self._metrics()
        except httpx2.TransportError:  # of a machine that stands still
            return {}
        is_whole = sum(samples_in(text, "hubbub_worker_up").values()) == COUNT
        return samples_in(text, "hubbub_connections") if is_whole else {}

    def until_all_serve(self) -> None:
        until(
            self._all_serve,
            seconds=START_SECONDS,
            why=f"all workers serve\n{self.supervisor.log}",
        )

    def _all_serve(self) -> bool:
        """A worker tells its metrics some time before it is ready, and listens only then."""
        tell = bool(self._told_by_all())
        return tell and all(map(listens, self.pids().values()))

    def until_empty(self) -> None:
        """Return when no earlier test's connection is left."""
        until(lambda: not any(self.connections().values()))


def samples_in(metrics: str, name: str) -> dict[str, float]:
    """One metric by worker."""
    return {
        sample.labels["worker"]: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    }


def listens(pid: int) -> bool:
    """Whether clients may come to that process."""
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(each.status == psutil.CONN_LISTEN for each in sockets)


@contextmanager
def workers_on(nats: NatsServer, processes: Processes) -> Iterator[Workers]:
    """Two workers that serve, on a server that has no streams yet."""
    make_streams(nats.url)
    environment = {
        "HUBBUB_NATS_URL": nats.url,
        "HUBBUB_HMAC_SECRET": SECRET,
        "HUBBUB_GATEWAY_DRAIN_SECONDS": str(DRAIN_SECONDS),
    }
    supervisor = processes.service("gateway", "--workers", str(COUNT), env=environment)
    supervisor.until_ready(seconds=START_SECONDS)
    started = Workers(supervisor, environment, processes)
    started.until_all_serve()
    yield started
    assert_no_secrets_and_no_tracebacks(processes.logs())


@pytest.fixture
def workers(processes: Processes, nats_server: Callable[[], NatsServer]) -> Iterator[Workers]:
    with workers_on(nats_server(), processes) as started:
        yield started


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """For all tests that leave them as they were."""
    home = tmp_path_factory.mktemp("standing")
    nats = NatsServer(home / "nats")
    nats.start()
    try:
        with processes_in(home) as processes, workers_on(nats, processes) as started:
            yield started
    finally:
        nats.stop()


@asynccontextmanager
async def a_tab_on_each(workers: Workers) -> AsyncGenerator[dict[str, Tab]]:
    """Tabs that come back by themselves, by the worker that they are on at first."""
    await anyio.to_thread.run_sync(workers.until_empty)
    async with AsyncExitStack() as stack:
        found: dict[str, Tab] = {}
        for user in range(1, MOST_TRIES):
            before = await connections_of(workers)
            tab = await stack.enter_async_context(
                persistent_tab(workers.ws_url, token=a_token(user))
            )
            [number] = (Counter(await connections_of(workers)) - Counter(before)).keys()
            found.setdefault(number, tab)
            if len(found) == COUNT:
                yield found
                return
    raise AssertionError(f"all of {MOST_TRIES} connections came to one worker")


async def connections_of(workers: Workers) -> dict[str, int]:
    return await anyio.to_thread.run_sync(workers.connections)


async def test_what_a_tab_of_one_worker_says_reaches_a_tab_of_the_other(standing: Workers) -> None:
    async with a_tab_on_each(standing) as tabs:
        await tabs["1"].say("a", "from the first")
        await tabs["2"].say("b", "from the second")

        for tab in tabs.values():
            await tab.until_has({"from the first", "from the second"})


async def test_a_killed_worker_is_replaced_and_its_tabs_come_back(workers: Workers) -> None:
    killed = workers.pids()["1"]
    async with a_tab_on_each(workers) as tabs:
        psutil.Process(killed).kill()
        await tabs["2"].say("a", "said meanwhile")

        await tabs["1"].until_has({"said meanwhile"})
        await anyio.to_thread.run_sync(workers.until_all_serve)

    assert workers.pids()["1"] != killed
    assert '"child": "worker 1", "status": -9' in workers.supervisor.log


async def test_a_worker_that_drains_resets_nobody_who_comes_at_that_time(workers: Workers) -> None:
    drained = workers.pids()["1"]
    leave = threading.Event()
    with ThreadPoolExecutor() as threads:
        hammers = [threads.submit(come_again_and_again, workers, leave) for _ in range(4)]
        async with a_tab_on_each(workers) as tabs:
            psutil.Process(drained).terminate()
            await tabs["2"].say("a", "said meanwhile")
            await tabs["1"].until_has({"said meanwhile"})
            await anyio.to_thread.run_sync(lambda: until(lambda: not psutil.pid_exists(drained)))
            await anyio.to_thread.run_sync(workers.until_all_serve)
        leave.set()
        answers = sum((hammer.result(timeout=20) for hammer in hammers), Counter[str]())

    assert set(answers) == {"HTTP/1.1 200 OK"}, answers


def come_again_and_again(workers: Workers, leave: threading.Event) -> Counter[str]:
    """Open a connection for each of many requests; return what became of them."""
    answers = Counter[str]()
    while not leave.is_set():
        try:
            place = ("127.0.0.1", workers.supervisor.port)
            with socket.create_connection(place, timeout=10) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answers[connection.recv(4096).decode().partition("\r\n")[0]] += 1
        except OSError as error:
            answers[repr(error)] += 1
    return answers


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
async def test_a_signal_drains_all_workers_and_ends_with_0_in_time(
    how: str, workers: Workers
) -> None:
    started = [psutil.Process(pid) for pid in workers.pids().values()]
    async with AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(open_tab(workers.ws_url, a_token(user)))
            for user in range(1, 9)
        ]
        signalled = time.monotonic()
        if how == "SIGTERM":
            workers.supervisor.signal(signal.SIGTERM)
        else:
            workers.supervisor.interrupt()
        closes = [await tab.until_closed() for tab in tabs]
        status = await anyio.to_thread.run_sync(workers.supervisor.wait)
        seconds = time.monotonic() - signalled

    assert closes == [(1012, "restarting")] * len(tabs)
    assert (status, seconds < DRAIN_SECONDS + SLACK_SECONDS) == (0, True), f"{seconds} s"
    assert all(map(is_gone, started))
    assert "child_killed" not in workers.supervisor.log


def test_a_killed_supervisor_leaves_nobody_behind(workers: Workers) -> None:
    started = workers.pids_by_socket()
    processes = [psutil.Process(pid) for pid in started.values()]

    workers.supervisor.kill()

    until(lambda: all(map(is_gone, processes)))
    shutil.rmtree(next(iter(started)).parent)  # what nobody was left to remove


async def test_whichever_worker_is_asked_tells_the_metrics_of_all(standing: Workers) -> None:
    await anyio.to_thread.run_sync(standing.until_empty)
    async with AsyncExitStack() as stack:
        for user in range(1, 11):
            await stack.enter_async_context(open_tab(standing.ws_url, a_token(user)))
        told = [await connections_of(standing) for _ in range(10)]  # by a connection each

    assert told == [told[0]] * 10
    assert set(told[0]) == {"1", "2"}
    assert sum(told[0].values()) == 10


def test_a_worker_that_hangs_is_said_to_be_missing_from_the_metrics(standing: Workers) -> None:
    hanging = psutil.Process(standing.pids()["1"])
    hanging.suspend()
    try:
        with ThreadPoolExecutor(ASKING_AT_ONCE) as threads:
            asking = [
                threads.submit(standing.samples, "hubbub_worker_up") for _ in range(ASKING_AT_ONCE)
            ]
    finally:
        hanging.resume()

    # Those whose connection came to the one that hangs were answered by nobody.
    told = [each.result() for each in asking if each.exception() is None]
    assert told, [repr(each.exception()) for each in asking]
    assert told == [{"1": 0.0, "2": 1.0}] * len(told)
    standing.until_all_serve()


def test_a_taken_port_is_a_sentence_even_if_other_workers_share_it(standing: Workers) -> None:
    port = standing.supervisor.port
    second = standing.processes.service(
        "gateway", "--workers", "2", env=standing.environment, port=port
    )

    assert second.wait(seconds=30) == 1
    assert second.log == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
