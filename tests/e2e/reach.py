"""Whether a service is ready, and the edge sends people to every gateway again."""

import re
import time
from contextlib import ExitStack

from websockets.exceptions import InvalidHandshake
from websockets.sync.client import connect

from tests.e2e.stack import START_SECONDS, Service, Stack
from tests.system.processes import until

OPEN_SECONDS = 5.0
POLL_SECONDS = 0.02


def until_is_ready(service: Service) -> None:
    """Return when it says so; fail with what it says instead, and with its log."""
    deadline = time.monotonic() + START_SECONDS
    while (answer := service.get("/readyz")).status != 200:
        assert time.monotonic() < deadline, f"{service.name}: {answer}\n{service.log()}"
        time.sleep(POLL_SECONDS)


def connections(gateway: Service) -> int:
    """How many sockets a gateway has, in its own words."""
    answer = gateway.get("/metrics")
    assert answer.status == 200, answer
    found = re.search(r"^hubbub_connections (\d+)", answer.text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def until_the_edge_reaches_all(stack: Stack) -> None:
    """Return when some of those who come now land on each of the gateways."""
    until(lambda: _reaches_all(stack), seconds=START_SECONDS, why="the edge reaches all gateways")


def _reaches_all(stack: Stack) -> bool:
    with ExitStack() as sockets:
        for _ in stack.gateways:
            try:  # without a token: it has some seconds to say one
                socket = connect(
                    f"{stack.ws_url}/ws/chat", open_timeout=OPEN_SECONDS, compression=None
                )
            except (OSError, InvalidHandshake):
                return False
            sockets.enter_context(socket)
        return all(connections(gateway) for gateway in stack.gateways)
