"""What is made before a fork serves both processes, each on connections of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

TIMES = 20
SECONDS = 30
APPLICATION = f"""
import os, sys
from hubbub_client import SyncHubbub

hubbub = SyncHubbub(sys.argv[1], "a key")
hubbub.publish("chat:lobby", "before")
child = os.fork()
for _ in range({TIMES}):
    position = hubbub.publish("chat:lobby", "child" if child == 0 else "parent")
    assert position.epoch == ("child" if child == 0 else "parent"), "the answer of the other"
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


class Gateway(BaseHTTPRequestHandler):
    """It answers who publishes, and notes on which connection."""

    protocol_version = "HTTP/1.1"
    came: list[tuple[str, int]]

    def do_POST(self) -> None:
        who = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]
        self.came.append((who, self.client_address[1]))
        answer = json.dumps({"result": {"offset": 1, "epoch": who}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def gateway_url() -> Iterator[str]:
    Gateway.came = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_fork_publishes_on_a_connection_of_its_own(gateway_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, gateway_url],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(Gateway.came) == 1 + 2 * TIMES
    connections = {who: {port for by, port in Gateway.came if by == who} for who, _ in Gateway.came}
    assert connections["before"] == connections["parent"]
    assert len(connections["child"]) == 1
    assert connections["child"].isdisjoint(connections["parent"])
