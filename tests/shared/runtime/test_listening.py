"""One address for several processes: reserved, shared, and left without a broken connection."""

import asyncio
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.runtime.listening import CannotListen, leave_to_siblings, listen, reserve, share


def port_of(taken: socket.socket) -> int:
    return int(taken.getsockname()[1])


def test_a_reserved_address_is_nobody_elses() -> None:
    with reserve("127.0.0.1", 0) as reserved:
        port = port_of(reserved)
        for take in (listen, reserve):
            with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address"):
                take("127.0.0.1", port)


def test_a_reserved_address_that_is_served_is_nobody_elses() -> None:
    with reserve("127.0.0.1", 0) as reserved, share("127.0.0.1", port_of(reserved)) as serving:
        serving.listen()
        for take in (listen, reserve):
            with pytest.raises(CannotListen, match="Address already in use"):
                take("127.0.0.1", port_of(reserved))


def test_an_address_at_which_one_listens_cannot_be_reserved() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(CannotListen):
        reserve("127.0.0.1", port_of(taken))


def test_nobody_is_connected_to_a_reservation() -> None:
    with reserve("127.0.0.1", 0) as reserved, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(reserved)), timeout=10)


def test_an_address_can_be_reserved_again_at_once_after_connections() -> None:
    with listen("127.0.0.1", 0) as first:
        port = port_of(first)
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            first.setblocking(True)
            first.accept()[0].close()  # it goes first, so it is the one that lingers

    reserve("127.0.0.1", port).close()


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


async def test_who_comes_while_one_of_two_leaves_is_answered() -> None:
    loop = asyncio.get_running_loop()
    enough = threading.Event()

    def come_again_and_again(port: int) -> Counter[str]:
        answers = Counter[str]()
        while not enough.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                    answers[connection.recv(5).decode()] += 1
            except OSError as error:
                answers[repr(error)] += 1
        return answers

    with reserve("127.0.0.1", 0) as reserved, ThreadPoolExecutor() as threads:
        port = port_of(reserved)
        staying = await loop.create_server(Greeter, sock=share("127.0.0.1", port))
        crowd = [threads.submit(come_again_and_again, port) for _ in range(8)]
        for _ in range(5):
            place = share("127.0.0.1", port)
            leaving = await loop.create_server(Greeter, sock=place)
            await asyncio.sleep(0.1)  # for some to come to it
            await leave_to_siblings([place])
            leaving.close()
        enough.set()
        answers = [await asyncio.wrap_future(each) for each in crowd]
        staying.close()

    assert set(sum(answers, Counter[str]())) == {"hello"}, answers
