"""A real system for an application's tests: `hubbub up`, in a folder that is gone at the end."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2

from hubbub_client.arguments import User
from hubbub_client.client import Hubbub
from hubbub_client.published import Published
from hubbub_client.results import Position
from hubbub_client.sync_client import SyncHubbub

POLL_SECONDS = 0.05
STOP_SECONDS = 20.0
"""From the signal to the end; then it is killed."""
SHOWN_LINES = 40
"""Of what a system printed that did not start."""

_READY = re.compile(r"^Hubbub \S+ is ready: (http://\S+)$", re.MULTILINE)


class NotStarted(Exception):
    """There is no system, and this says why."""


@dataclass(frozen=True)
class Server:
    """What runs; it takes this key, and tokens that are signed with this secret."""

    url: str
    api_key: str = field(repr=False)
    secret: str = field(repr=False)


@contextmanager
def running_server(
    command: Sequence[str], settings: Mapping[str, str], *, start_seconds: float
) -> Iterator[Server]:
    """
    Args:
        command: Of the server, such as `hubbub`, or `uvx --from 'hubbub[embedded]' hubbub`.
        settings: Its environment, beside what is not Hubbub's of this process's.

    Raises:
        NotStarted: it is not there, or not ready in time.
    """
    api_key, secret = secrets.token_hex(32), secrets.token_hex(32)
    environment = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 passed on
        if not name.startswith("HUBBUB_")
    }
    environment |= {"HUBBUB_API_KEY": api_key, "HUBBUB_HMAC_SECRET": secret, **settings}
    with tempfile.TemporaryDirectory(prefix="hubbub-") as home, _Log(Path(home, "log")) as log:
        process = subprocess.Popen(
            [*_found(command), "up", "--port", "0", "--data", str(Path(home, "data"))],
            stdin=subprocess.DEVNULL,
            stdout=log.descriptor,
            stderr=log.descriptor,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the tests, and they end it
        )
        try:
            yield Server(_url_of(process, log, start_seconds), api_key, secret)
        finally:
            _stop(process)


class RunningHubbub(Published):
    """A system that runs, as one test sees it: nothing was published before."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.websocket_url = f"ws{server.url.removeprefix('http')}/connection/websocket"
        """For the SDKs."""
        self.api_key = server.api_key
        self.secret = server.secret
        """What tokens are signed with."""
        self._begin = self.sync_hubbub.history("#nobody", limit=0).position

    @cached_property
    def hubbub(self) -> Hubbub:
        """A client of it, for any event loop."""
        # It keeps no connection, so none is left when the loop is closed.
        alone = httpx2.Limits(max_keepalive_connections=0)
        transport = httpx2.AsyncHTTPTransport(verify=False, limits=alone)
        return Hubbub(self.url, self.api_key, transport=transport)

    @cached_property
    def sync_hubbub(self) -> SyncHubbub:
        """The same for an application that does not await."""
        transport = httpx2.HTTPTransport(verify=False)
        return SyncHubbub(self.url, self.api_key, transport=transport)

    def token(self, user: User, **claims: Any) -> str:
        """What the user's page connects with; see `connection_token`."""
        from hubbub_client.tokens import connection_token  # only who asks for one needs PyJWT

        return connection_token(user, secret=self.secret, **claims)

    def data(self, channel: str) -> list[Any]:
        """What was published in a channel, as its history has it: so, nothing ephemeral.

        Raises:
            NotAvailable: the channel has no history.
        """
        found: list[Any] = []
        since = self._begin
        while page := self.sync_hubbub.history(channel, limit=-1, since=since).publications:
            found += [each.data for each in page]
            since = Position(page[-1].offset, since.epoch)
        return found

    def close(self) -> None:
        self.sync_hubbub.close()


class _Log:
    """What a system prints."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> "_Log":
        self.descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.descriptor)

    def text(self) -> str:
        return self._file.read_text(errors="replace")


def _found(command: Sequence[str]) -> list[str]:
    """
    Raises:
        NotStarted: there is no such program, neither beside this Python nor in the PATH.
    """
    program, *arguments = command
    beside = str(Path(sys.executable).parent)
    path = shutil.which(program, path=beside) or shutil.which(program)
    if path is None:
        raise NotStarted(
            f"there is no `{program}`: pip install 'hubbub[embedded]', or say in pytest's option"
            " hubbub_command how it is started"
        )
    return [path, *arguments]


def _url_of(process: subprocess.Popen[bytes], log: _Log, start_seconds: float) -> str:
    """Its URL, once it is ready.

    Raises:
        NotStarted: it is not in time.
    """
    deadline = time.monotonic() + start_seconds
    while True:
        has_ended = process.poll() is not None
        if ready := _READY.search(log.text()):
            return ready[1]
        if has_ended or time.monotonic() > deadline:
            said = "\n".join(log.text().splitlines()[-SHOWN_LINES:]) or "nothing"
            happened = (
                f"ended with status {process.returncode}"
                if has_ended
                else f"is not ready after {start_seconds:g} s"
            )
            raise NotStarted(f"`hubbub up` {happened}, and printed:\n{said}")
        time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        process.wait()
