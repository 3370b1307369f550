"""nats-server as a child process: restarted, never left behind.

A small shell script runs between us and the server. It waits on a pipe whose other end only we
hold, so that it stops the server when we die, in whatever way. This works on Linux and macOS alike,
whose kernels have different means for it.
"""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import structlog
from pydantic import BaseModel, ValidationError

from hubbub import bus_accounts
from hubbub.data_folder import take_lock, write_private
from hubbub.ending import end_or_kill
from hubbub.errors import CommandFailed
from hubbub.nats_binary import NatsServerMissing, server_binary
from shared.runtime.backoff import Backoff
from shared.runtime.supervision import Loop, Supervisor

log = structlog.get_logger(__name__)

CONFIG_NAME = "nats.conf"
MAX_PAYLOAD_BYTES = 256 * 1024
READY_SECONDS = 60.0
"""Reading a large store takes a while."""
POLL_SECONDS = 0.01
STOP_SECONDS = 2.0
PREDECESSOR_SECONDS = 10.0
"""How long a server whose parent was killed may take to let go of the store."""

# A shell gives its background jobs /dev/null as input, so the pipe is moved to descriptor 3 first.
# If the shell alone is killed, its watching half is still there and stops the server.
_SHIM = """
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(
  while read -r line; do :; done
  kill -TERM "$server"
  tries=0
  while kill -0 "$server" && [ "$tries" -lt 20 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$server"
) <&3 2>/dev/null &
watcher=$!
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""


HEALTH_SECONDS = 1.0
"""Between two health checks."""
SICK_ANSWERS = 2
"""Failed checks in a row, after which the server is restarted."""
WRITE_FAILED = "write error"
"""In the answer of its health check, from a failed write until its end."""
FREE_BYTES = 16 * 1024 * 1024
"""With less free space a restart would not help."""
STORE_PART = 0.75
"""Of the disk's space, for the streams; the rest is for the databases and others."""


class NatsServerFailed(CommandFailed):
    """The server did not start, or not in time."""


class _Ports(BaseModel):
    """The file in which the server writes where it listens."""

    nats: list[str]
    monitoring: list[str]


def store_room(home: Path) -> int:
    """How many bytes all streams of a store may have together, including what they have now."""
    held = sum(
        _size(Path(folder, name))
        for folder, _, names in os.walk(home / "jetstream")
        for name in names
    )
    return round(STORE_PART * (shutil.disk_usage(home).free + held))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # the server has just removed it
        return 0


class NatsServer:
    """A server and its store; restarts keep the address.

    The address is read only once, since on a full disk the server can't write it.
    """

    url: str
    """Where it listens, without a user and password."""

    def __init__(self, home: Path, *, predecessor_seconds: float = PREDECESSOR_SECONDS) -> None:
        self.pid_file = home / "nats.pid"
        self.log_file = home / "nats.log"
        self._home = home
        self._predecessor_seconds = predecessor_seconds
        self._address = self._monitoring = "127.0.0.1:-1"  # -1: a free port
        self._is_known = False
        self._passwords: Mapping[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None

    def url_of(self, user: str) -> str:
        """The URL with user and password."""
        return f"nats://{user}:{self._passwords[user]}@{self._address}"

    def urls(self) -> dict[str, str]:
        """Of every user."""
        return {user: self.url_of(user) for user in self._passwords}

    async def start(self) -> None:
        """Start it and return when it serves.

        Raises:
            NatsServerFailed: it did not start; the store is in use; it took too long.
            NatsServerMissing: there is none to start.
        """
        self._home.mkdir(mode=0o700, exist_ok=True)
        # The server process holds the lock while it runs: a second one would ruin the store.
        lock = await self._store_lock()
        try:
            for stale in self._home.glob("*.ports"):
                stale.unlink()
            self._passwords = bus_accounts.provide(self._home, in_use=self._passwords)
            self._write_config()
            await self._spawn(lock)
        finally:
            os.close(lock)
        await self._until_ready()

    async def stop(self) -> None:
        self._let_go()
        if self._process is None:
            return
        await end_or_kill(self._process.wait(), within_seconds=STOP_SECONDS, kill=self._kill)

    def _kill(self) -> None:
        assert self._process is not None
        log.warning("nats_server_killed", after_seconds=STOP_SECONDS)
        os.killpg(self._process.pid, signal.SIGKILL)

    async def keep_alive(self) -> None:
        """Restart it at the same address whenever it ends or is sick, until cancelled."""
        backoff = Backoff()
        while True:
            started = time.monotonic()
            sickness = await self._sickness_or_end()
            if sickness is not None:
                log.error("nats_server_sick", reason=sickness)
                await self.stop()
            else:
                assert self._process is not None
                self._let_go()
                status = self._process.returncode
                log.error("nats_server_ended", status=status, log=str(self.log_file))
            await asyncio.sleep(backoff.pause_after(time.monotonic() - started))
            try:
                await self.start()
            except (NatsServerFailed, NatsServerMissing, OSError) as error:
                log.error("nats_server_not_started", reason=str(error))
            else:
                log.info("nats_server_started_again", url=self.url)

    async def _sickness_or_end(self) -> str | None:
        """What is wrong with it, if a restart can help; None if it has ended.

        After a failed write, as on a full disk, the server stores nothing more in that stream
        until its end, and its health check says so.
        """
        assert self._process is not None
        answers = 0
        async with (
            asyncio.TaskGroup() as group,
            httpx2.AsyncClient(verify=False, trust_env=False) as client,
        ):
            ending = group.create_task(self._process.wait())
            while not ending.done():
                await asyncio.wait({ending}, timeout=HEALTH_SECONDS)
                sickness = await self._sickness(client)
                answers = answers + 1 if sickness is not None else 0
                if answers >= SICK_ANSWERS and self._has_room():
                    ending.cancel()
                    return sickness
        return None

    async def _sickness(self, client: httpx2.AsyncClient) -> str | None:
        """What its health check reports. If it does not answer, it is slow or has ended."""
        answer = await self._health(client)
        if answer is None or answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
            return None
        return answer.text

    def _has_room(self) -> bool:
        home = next(folder for folder in (self._home, *self._home.parents) if folder.exists())
        return shutil.disk_usage(home).free >= FREE_BYTES

    async def _serves(self, client: httpx2.AsyncClient) -> bool:
        """Whether it has started. A failed write after that is left to `keep_alive`."""
        answer = await self._health(client)
        if answer is None:
            return False
        return answer.status_code == httpx2.codes.OK or WRITE_FAILED in answer.text

    async def _health(self, client: httpx2.AsyncClient) -> httpx2.Response | None:
        try:
            return await client.get(f"http://{self._monitoring}/healthz", timeout=HEALTH_SECONDS)
        except httpx2.HTTPError:
            return None

    async def _store_lock(self) -> int:
        try:
            async with asyncio.timeout(self._predecessor_seconds):
                while (lock := take_lock(self._home / "lock")) is None:  # noqa: ASYNC110 only the kernel knows
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NatsServerFailed(f"another nats-server still uses {self._home}") from None
        return lock

    def _write_config(self) -> None:
        # All paths are relative, and the server runs in its home: a folder's name may have
        # characters that nats.conf can't express.
        settings = {
            "server_name": "hubbub",
            "listen": self._address,
            "http": self._monitoring,
            "ports_file_dir": ".",
            "pid_file": self.pid_file.name,
            "max_payload": MAX_PAYLOAD_BYTES,
            "write_deadline": "5s",
            # On one node an acknowledged message must be synced to survive a power cut.
            # The streams reserve their space themselves. Without max_file_store the limit would
            # be what is free at the start: after a start on a full disk nothing, for ever.
            "jetstream": {
                "store_dir": ".",
                "sync_interval": "always",
                "max_file_store": shutil.disk_usage(self._home).total,
            },
        }
        # JSON is valid nats.conf, except for its escapes.
        lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
        text = "\n".join([bus_accounts.INCLUDE, *lines])
        write_private(self._home / CONFIG_NAME, text.encode())  # on a full disk keeps the old one

    async def _spawn(self, lock: int) -> None:
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        read_end, self._lifeline = os.pipe()
        try:
            with self.log_file.open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _SHIM,
                    "nats-server",
                    str(server_binary()),
                    "-c",
                    CONFIG_NAME,
                    cwd=self._home,
                    stdin=read_end,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    start_new_session=True,  # a Ctrl-C reaches us only
                )
        finally:
            os.close(read_end)

    async def _until_ready(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not self._is_known:
                    await self._still_starting()
                    self._learn_addresses()
                async with httpx2.AsyncClient(verify=False, trust_env=False) as client:
                    while not await self._serves(client):
                        await self._still_starting()
        except TimeoutError:
            await self.stop()
            raise NatsServerFailed(
                f"nats-server was not ready within {READY_SECONDS:g} s; see {self.log_file}"
            ) from None

    def _learn_addresses(self) -> None:
        for file in self._home.glob("*.ports"):
            try:
                ports = _Ports.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue  # not written completely yet
            self.url = ports.nats[0]
            self._address = self.url.removeprefix("nats://")
            self._monitoring = ports.monitoring[0].removeprefix("http://")
            self._is_known = True

    async def _still_starting(self) -> None:
        assert self._process is not None
        if self._process.returncode is not None:
            said = self.log_file.read_text(errors="replace").rstrip().rpartition("\n")[2]
            reason = said.rpartition("[FTL] ")[2] or f"see {self.log_file}"
            raise NatsServerFailed(f"nats-server did not start: {reason}")
        await asyncio.sleep(POLL_SECONDS)

    def _let_go(self) -> None:
        """Close the pipe, so that the shell stops the server."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


@asynccontextmanager
async def nats_server(
    home: Path,
    *,
    predecessor_seconds: float = PREDECESSOR_SECONDS,
    supervisor: Supervisor | None = None,
) -> AsyncGenerator[NatsServer]:
    """A server on the store in ``home``, restarted whenever it dies, and stopped at the end."""
    server = NatsServer(home, predecessor_seconds=predecessor_seconds)
    try:
        await server.start()
        keep_alive = Loop("nats_server", server.keep_alive, is_vital=False)
        async with (supervisor or Supervisor()).running(keep_alive):
            yield server
    finally:
        await server.stop()
