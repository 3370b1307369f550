import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from shared.runtime.listening import CannotListen, listen
from shared.runtime.process import Server, running, server_config, stop_signals

SERVICE = """
import asyncio, sys
from shared.runtime.listening import listen
from shared.runtime.process import Server, run, running, server_config, stop_signals

async def app(scope, receive, send):
    if scope["path"] == "/slow":
        print("entered", flush=True)
        await asyncio.sleep(3600)
    if scope["path"] == "/body":
        print("entered", flush=True)
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})

async def forever():
    try:
        await asyncio.sleep(3600)
    finally:
        print("loop ended", flush=True)

async def drain():
    print("drained", flush=True)

async def main():
    with stop_signals() as stop:
        taken = listen("127.0.0.1", 0)
        async with running(forever):
            config = server_config(app, forwarded_allow_ips="")
            server = Server(config, stop=stop, drain=drain, graceful_seconds=1)
            print(taken.getsockname()[1], flush=True)
            await server.serve(sockets=[taken])
            print("served", flush=True)

run(main())
"""


async def test_a_server_that_is_cancelled_listens_no_more() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    with listen("127.0.0.1", 0) as taken:
        server = Server(server_config(app, forwarded_allow_ips=""), stop=asyncio.Event())
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[taken]))
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0)
            serving.cancel()

        assert not any(each.is_serving() for each in server.servers)


async def test_idle_connections_end_before_the_drain() -> None:
    stop, seen = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    async def drain() -> None:
        await seen.wait()

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        server = Server(server_config(app, forwarded_allow_ips=""), stop=stop, drain=drain)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[taken]))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            stop.set()
            assert (await reader.read()).endswith(b"here\r\n0\r\n\r\n")
            seen.set()
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 3])
@pytest.mark.parametrize("path", ["/", "/slow"])
def test_a_service_that_is_signalled_drains_closes_all_and_exits_0(
    signals: list[signal.Signals], path: str
) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with service:
        assert service.stdout is not None
        assert service.stderr is not None
        try:
            port = int(service.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if path == "/":
                    assert client.recv(1000).startswith(b"HTTP/1.1 200")
                else:
                    assert service.stdout.readline() == "entered\n"
                for number in signals:
                    service.send_signal(number)
                said, complaints = service.communicate(timeout=30)
        finally:
            service.kill()

    given_up = path == "/slow"
    assert ("requests_given_up" in said) == given_up
    spoken = [line for line in said.split("\n") if "requests_given_up" not in line]
    assert spoken == ["drained", "served", "loop ended", ""], complaints
    assert service.returncode == 0


def test_a_request_that_never_ends_does_not_hold_up_the_stop_and_is_no_defect() -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with service:
        assert service.stdout is not None
        try:
            port = int(service.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                head = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1"
                client.sendall(head.encode())
                assert service.stdout.readline() == "entered\n"
                service.send_signal(signal.SIGTERM)
                _, complaints = service.communicate(timeout=30)
        finally:
            service.kill()

    assert (service.returncode, complaints) == (0, "")


def test_a_taken_address_is_a_sentence() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address"):
            listen("127.0.0.1", port)


async def test_a_loop_that_raises_ends_the_body_and_is_heard_of() -> None:
    async def failing() -> None:
        raise RuntimeError("the loop broke")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="the loop broke")):
        async with running(failing), asyncio.timeout(10):
            await asyncio.Event().wait()


async def test_the_loops_end_with_the_body() -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(forever):
        await begun.wait()

    assert ended.is_set()


async def test_a_signal_sets_the_event_and_nothing_else() -> None:
    with stop_signals() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await stop.wait()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_one_turn_of_the_loop_lets_in_many(anyio_backend: object) -> None:
    turn = 0
    came_in: list[int] = []

    class Newcomer(asyncio.Protocol):
        def __init__(self, **_: object) -> None: ...

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            came_in.append(turn)
            transport.close()

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    with ExitStack() as held, listen("127.0.0.1", 0) as taken:
        stop = asyncio.Event()
        server = Server(server_config(app, forwarded_allow_ips="", http=Newcomer), stop=stop)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[taken]))
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(16):  # as the loop stands still: they wait to be accepted
                held.enter_context(socket.create_connection(taken.getsockname(), timeout=10))
            while len(came_in) < 16:
                turn += 1
                await asyncio.sleep(0)
            stop.set()

    assert came_in[-1] - came_in[0] <= 2
