"""The local stack's edge keeps what the real one promises."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.edge import Address, Edge
from tests.fixtures.tcp import a_tcp_server

ANSWER_SECONDS = 10.0


@asynccontextmanager
async def an_upstream(name: str) -> AsyncGenerator[Address]:
    """Answers with its name and with what it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + name.encode() + b"\n" + head)
        if b"Upgrade" in head:
            writer.write(await reader.readexactly(5))
        writer.close()

    async with a_tcp_server(answer) as port:
        yield "127.0.0.1", port


@asynccontextmanager
async def serving(edge: Edge) -> AsyncGenerator[int]:
    async with a_tcp_server(edge.serve) as port:
        yield port
        await edge.close()


async def ask(port: int, path: str, *headers: str, then: bytes = b"") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: h", *headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + then)
    async with asyncio.timeout(ANSWER_SECONDS):
        answer = (await reader.read()).decode()
    writer.close()
    return answer


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("the page")
    (tmp_path / "app.js").write_text("the script")
    (tmp_path / "__init__.py").write_text("not for browsers")
    return tmp_path


async def test_paths_go_to_their_services_in_turn_and_past_those_who_do_not_answer(
    page: Path,
) -> None:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(an_upstream("one"))
        two = await stack.enter_async_context(an_upstream("two"))
        nobody = ("127.0.0.1", 1)
        edge = Edge({"ws": [one, two], "auth": [nobody, one], "gone": [nobody]}, page=page)
        port = await stack.enter_async_context(serving(edge))

        in_turn = [(await ask(port, "/ws/chat?a=b")).split("\n")[2] for _ in range(4)]
        answered = [(await ask(port, "/auth")).split("\n")[2] for _ in range(3)]
        gone = await ask(port, "/gone/x")

    assert in_turn in (["one", "two"] * 2, ["two", "one"] * 2)
    assert answered == ["one"] * 3
    assert gone.startswith("HTTP/1.1 502")


async def test_a_service_is_told_the_callers_own_address_whatever_the_caller_says(
    page: Path,
) -> None:
    async with an_upstream("one") as one, serving(Edge({"ws": [one]}, page=page)) as port:
        answer = await ask(port, "/ws", "X-Forwarded-For: 10.0.0.1", "forwarded: for=10.0.0.1")

    assert "X-Forwarded-For: 127.0.0.1" in answer
    assert "10.0.0.1" not in answer


async def test_an_upgrade_keeps_its_headers_and_carries_bytes_both_ways(page: Path) -> None:
    async with an_upstream("one") as one, serving(Edge({"ws": [one]}, page=page)) as port:
        answer = await ask(port, "/ws", "Connection: Upgrade", "Upgrade: x", then=b"bytes")

    assert "Connection: Upgrade" in answer
    assert answer.endswith("bytes")


async def test_the_page_is_there_and_nothing_beside_it(page: Path) -> None:
    async with serving(Edge({}, page=page)) as port:
        paths = ("/", "/web/app.js", "/web/__init__.py", "/web/../../etc/passwd", "/metrics")
        answers = [await ask(port, path) for path in paths]

    assert [answer.split()[1] for answer in answers] == ["200", "200", "404", "404", "404"]
    assert answers[0].endswith("the page")
    assert answers[1].endswith("the script")
