"""A gateway that is asked to stop while all that it waits for hangs."""

import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.fixtures.nats import NatsServer
from tests.gateway.transport.sockets import a_handshake
from tests.system.conftest import API_KEY, SECRET, a_token, make_streams
from tests.system.processes import HubbubProcess, Processes

DRAIN_SECONDS = 1.0
ENDS_WITHIN_SECONDS = DRAIN_SECONDS + 5.0
SLACK_SECONDS = 2.0
"""For a machine that has other things to do: less than any one of those who hang would take."""

PUBLICATION = b'{"channel":"chat:lobby","data":{}}'


def a_publication(*, missing: int = 0) -> bytes:
    """A request to publish, from which so many bytes are missing."""
    head = (
        f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(PUBLICATION)}\r\n\r\n"
    )
    return head.encode() + PUBLICATION[: len(PUBLICATION) - missing]


@pytest.fixture
def nats(nats_server: Callable[[], NatsServer]) -> NatsServer:
    return nats_server()


@pytest.fixture(params=["alone", "as a worker"])
def gateway(
    request: pytest.FixtureRequest, processes: Processes, nats: NatsServer
) -> HubbubProcess:
    environment = {
        "HUBBUB_NATS_URL": nats.url,
        "HUBBUB_HMAC_SECRET": SECRET,
        "HUBBUB_API_KEY": API_KEY,
        "HUBBUB_GATEWAY_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "HUBBUB_GATEWAY_PUBLISH_SECONDS": "60",
    }
    make_streams(nats.url)
    options = [] if request.param == "alone" else ["--workers", "2"]
    started = processes.service("gateway", *options, env=environment)
    started.until_ready()
    return started


def test_it_ends_in_time_whoever_hangs(gateway: HubbubProcess, nats: NatsServer) -> None:
    place = ("127.0.0.1", gateway.port)
    with (
        socket.create_connection(place, timeout=10) as tab,
        socket.create_connection(place, timeout=10) as unanswered,
        socket.create_connection(place, timeout=10) as unfinished,
    ):
        tab.sendall(a_handshake(f"/ws/chat?token={a_token(1)}".encode()))
        seen = b""
        while b'"welcome"' not in seen:
            seen += tab.recv(4096)
        nats.pause()
        unanswered.sendall(a_publication())  # waits for the bus
        unfinished.sendall(a_publication(missing=1))
        unfinished.settimeout(0.3)
        with pytest.raises(TimeoutError):  # nobody answers; both are under way
            unfinished.recv(1)

        signalled = time.monotonic()
        gateway.signal(signal.SIGTERM)
        status = gateway.wait(seconds=30)
        seconds = time.monotonic() - signalled

    assert status == 0, gateway.log
    assert seconds < ENDS_WITHIN_SECONDS + SLACK_SECONDS, gateway.log
    assert "child_killed" not in gateway.log
