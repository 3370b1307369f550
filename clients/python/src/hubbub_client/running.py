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
QUICK_HASHES = {
    "HUBBUB_AUTH_ARGON2_MEMORY_KIB": "8",
    "HUBBUB_AUTH_ARGON2_PASSES": "1",
    "HUBBUB_AUTH_ARGON2_LANES": "1",
}
"""Of passwords that are nobody's: as they are meant to be, they take half of a system's start."""
SHOWN_LINES = 40
"""Of what a system printed that did not start, or has ended."""

# It stops when nobody holds its other end: also if the tests are killed. Its shell gives background
# jobs /dev/null as input, so the pipe is moved to descriptor 3 first.
_UNTIL_PIPE_ENDS = """
exec 3<&0 </dev/null
"$@" 3<&- &
system=$!
(while read -r line; do :; done; kill -TERM "$system") <&3 2>/dev/null &
watcher=$!
wait "$system"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""

_READY = re.compile(r"^Hubbub \S+ is ready: (http://\S+)$", re.MULTILINE)


class NotStarted(Exception):
    """There is no system, or none any more, and this says why."""


@dataclass(frozen=True)
class Server:
    """What runs; it takes this key, and tokens that are signed with this secret."""

    url: str
    api_key: str = field(repr=False)
    secret: str = field(repr=False)
    process: "_Process" = field(repr=False)

    def check(self) -> None:
        """
        Raises:
            NotStarted: it has ended.
        """
        self.process.check()


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
    environment |= QUICK_HASHES
    environment |= {"HUBBUB_API_KEY": api_key, "HUBBUB_HMAC_SECRET": secret, **settings}
    with tempfile.TemporaryDirectory(prefix="hubbub-") as home, _Log(Path(home, "log")) as log:
        up = [*_found(command), "up", "--port", "0", "--data", str(Path(home, "data"))]
        process = _Process(up, environment, log)
        try:
            yield Server(process.url(start_seconds), api_key, secret, process)
        finally:
            process.stop()


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
        # With a transport of its own no proxy of the environment is asked; HTTP verifies nothing.
        # It keeps no connection, so none is left when the loop is closed.
        alone = httpx2.Limits(max_keepalive_connections=0)
        transport = httpx2.AsyncHTTPTransport(verify=False, limits=alone)
        return Hubbub(self.url, self.api_key, transport=transport)

    @cached_property
    def sync_hubbub(self) -> SyncHubbub:
        """The same for an application that does not await."""
        transport = httpx2.HTTPTransport(verify=False)  # as above
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


class _Process:
    """A system, and the shell that waits for its end or for ours."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: _Log) -> None:
        self._log = log
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_PIPE_ENDS, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log.descriptor,
            stderr=log.descriptor,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the tests, and they end it
        )

    def url(self, start_seconds: float) -> str:
        """Once it is ready.

        Raises:
            NotStarted: it is not in time.
        """
        deadline = time.monotonic() + start_seconds
        while True:
            self.check()
            if ready := _READY.search(self._log.text()):
                return ready[1]
            if time.monotonic() > deadline:
                raise self._failed(f"is not ready after {start_seconds:g} s")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """
        Raises:
            NotStarted: it has ended.
        """
        status = self._shell.poll()
        if status is not None:
            raise self._failed(f"ended with status {status}")

    def stop(self) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)  # and what it has started
            self._shell.wait()

    def _failed(self, happened: str) -> NotStarted:
        said = "\n".join(self._log.text().splitlines()[-SHOWN_LINES:]) or "nothing"
        return NotStarted(f"`hubbub up` {happened}, and printed:\n{said}")


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
