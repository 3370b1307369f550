"""Each worker returns the metrics of all workers that answer."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.siblings import Siblings, merge

Samples = dict[tuple[str, str], float]


def a_registry(connections: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("connections", "Open sockets.", registry=registry).set(connections)
    commands = Counter("commands", "Commands.", ["type"], registry=registry)
    commands.labels("ping").inc(connections)
    Histogram("seconds", "To an answer.", buckets=[1.0], registry=registry).observe(0.5)
    return registry


def samples(text: bytes) -> Samples:
    """Samples by name and worker; also asserts that no family comes twice."""
    families = list(text_string_to_metric_families(text.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {
        (sample.name, sample.labels["worker"]): sample.value
        for family in families
        for sample in family.samples
    }


@asynccontextmanager
async def three_workers(folder: Path) -> AsyncGenerator[list[Siblings]]:
    async with AsyncExitStack() as stack:
        siblings = [Siblings(folder / str(n), a_registry(n * 10)) for n in (1, 2, 3)]
        for each in siblings:
            await stack.enter_async_context(each.answering())
        yield siblings


async def test_each_worker_returns_the_metrics_of_all(tmp_path: Path) -> None:
    async with three_workers(tmp_path) as siblings:
        told = [samples(await each.metrics()) for each in siblings]

    assert told[0] == told[1] == told[2]
    for number in ("1", "2", "3"):
        assert told[0]["connections", number] == int(number) * 10
        assert told[0]["commands_total", number] == int(number) * 10
        assert told[0]["seconds_count", number] == 1
        assert told[0]["hubbub_worker_up", number] == 1


async def test_a_dead_worker_is_left_out_and_reported_down(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, other = [Siblings(tmp_path / str(n), a_registry(n)) for n in (1, 2)]
        await stack.enter_async_context(one.answering())
        async with other.answering():
            pass
        (tmp_path / "2").touch()  # a killed worker leaves its socket behind

        told = samples(await one.metrics())

    assert (told["hubbub_worker_up", "1"], told["hubbub_worker_up", "2"]) == (1, 0)
    assert told["connections", "1"] == 1
    assert ("connections", "2") not in told


async def told_beside(folder: Path, answer: Callable[[], Awaitable[bytes]]) -> Samples:
    """The metrics of a worker whose sibling gives this answer."""

    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await answer())
        writer.close()

    one = Siblings(folder / "1", a_registry(1))
    server = await asyncio.start_unix_server(reply, folder / "2")
    try:
        async with one.answering():
            return samples(await one.metrics())
    finally:
        server.close()


async def test_a_worker_that_dies_during_its_answer_is_left_out(tmp_path: Path) -> None:
    async def half() -> bytes:
        return b"# HELP connections Open sockets.\n# TYPE connections gauge\nconnections{wor"

    told = await told_beside(tmp_path, half)

    assert told["hubbub_worker_up", "2"] == 0
    assert told["connections", "1"] == 1


async def test_a_worker_that_does_not_answer_is_left_out_before_the_scrape_times_out(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()
    told = asyncio.Event()

    async def never() -> bytes:
        asked.set()
        await told.wait()
        return b""

    async with asyncio.timeout(10):  # the default of Prometheus
        text = await told_beside(tmp_path, never)
        told.set()

    assert asked.is_set()
    assert text["hubbub_worker_up", "2"] == 0


async def test_a_sibling_that_does_not_read_its_answer_holds_nobody_up(tmp_path: Path) -> None:
    registry = a_registry(1)
    Counter("filler", "More than a socket takes.", ["text"], registry=registry).labels("x" * 10**7)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        async with asyncio.timeout(10), Siblings(tmp_path / "1", registry).answering():
            await loop.sock_connect(deaf, str(tmp_path / "1"))
            await loop.sock_recv(deaf, 1)


async def test_a_new_worker_answers_on_the_socket_of_the_one_it_replaces(tmp_path: Path) -> None:
    for connections in (1, 2):
        async with Siblings(tmp_path / "2", a_registry(connections)).answering():
            told = samples(await Siblings(tmp_path / "1", a_registry(9)).metrics())
            assert told["connections", "2"] == connections
        (tmp_path / "2").unlink(missing_ok=True)


def test_no_workers_have_no_metrics() -> None:
    assert samples(merge({}).encode()) == {}
