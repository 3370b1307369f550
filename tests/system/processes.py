"""Whole processes for tests: started as an operator would, stopped for sure, their logs kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

import httpx2
import psutil

from tests.fixtures import plain_http
from tests.fixtures.commands import Command
from tests.fixtures.ports import free_ports

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
NOBODY = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOBODY)
"""The proxy of an office: it reaches none of our processes, so none may ask it."""
QUICK_HASHES = {
    "HUBBUB_AUTH_ARGON2_MEMORY_KIB": "8",
    "HUBBUB_AUTH_ARGON2_PASSES": "1",
    "HUBBUB_AUTH_ARGON2_LANES": "1",
}
"""By themselves they take a fifth of a second of a core each, and every `up` makes some."""

T = TypeVar("T")


def until(ask: Callable[[], T], *, seconds: float = READY_SECONDS, why: str = "") -> T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {why}"
        time.sleep(POLL_SECONDS)
    return answer


def until_alive(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when the service at the URL says so; fail if its process ends or takes too long."""

    def is_alive() -> bool:
        assert process.poll() is None, "it ended by itself"
        try:
            return plain_http.get(f"{url}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    until(is_alive, why="the service does not answer")


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; nobody else need have taken note of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or not process.is_running()
    except psutil.NoSuchProcess:
        return True


class HubbubProcess:
    """One `hubbub …` process, or one of an example; what it prints lies in ``log_file``."""

    def __init__(
        self,
        *arguments: str,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        module: str = "hubbub",
        script: Path | str | None = None,
        cwd: Path | None = None,
    ) -> None:
        """
        Args:
            script: Run that instead of the ``module`` of this environment.
            env: The ``HUBBUB_`` variables that it gets beside `QUICK_HASHES`; those of the test
                run are dropped.
        """
        self.arguments = arguments
        self.log_file = log_file
        self.host = host
        self.port = port
        dropped = ("HUBBUB_", "PYTHONUNBUFFERED")  # the latter would hide a missing flush
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        whole = inherited | PROXIES | QUICK_HASHES | dict(env or {})
        self.process: Command | subprocess.Popen[bytes]
        # Each in a session of its own, so that `interrupt` reaches it as a terminal would.
        with log_file.open("ab") as output:
            if script is None and module == "hubbub":
                self.process = Command(
                    arguments, stdout=output, stderr=output, env=whole, cwd=cwd, new_session=True
                )
                return
            self.process = subprocess.Popen(
                [*([script] if script else [sys.executable, "-m", module]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=whole,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def until_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Return when /readyz says so; fail with the log if it ends or takes too long."""
        until(lambda: self._ended() or self.is_ready(), seconds=seconds, why=f"ready\n{self.log}")
        assert not self._ended(), f"it ended with {self.process.returncode}:\n{self.log}"

    def is_ready(self) -> bool:
        # Asked often, while the process needs the CPU: so by the cheapest client.
        connection = HTTPConnection(self.host, self.port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def until_logged(self, text: str, *, seconds: float = READY_SECONDS) -> None:
        until(lambda: text in self.log, seconds=seconds, why=f"{text!r} logged\n{self.log}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT for the whole foreground group, as a terminal sends it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, now."""
        self.process.kill()
        self.process.wait(timeout=STOP_SECONDS)

    def wait(self, *, seconds: float = STOP_SECONDS) -> int:
        """The exit status; fails with the log if it doesn't end in time."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.log}") from None

    def stop(self) -> int:
        """SIGTERM and the exit status."""
        self.process.terminate()
        return self.wait()

    def _ended(self) -> bool:
        return self.process.poll() is not None


class Processes:
    """Starts hubbub's processes for one test; `end` stops whatever is left."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: list[HubbubProcess] = []

    def up(
        self,
        *options: str,
        data: Path | None = None,
        gateways: int = 1,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> HubbubProcess:
        """Start the whole system; its gateways are on consecutive ports."""
        port = free_ports(gateways) if port is None else port
        folder = data or self.home / "data"
        place = ["--port", str(port), "--data", str(folder), "--gateways", str(gateways)]
        return self.start("up", *place, *options, port=port, env=env)

    def service(
        self, name: str, *options: str, env: Mapping[str, str], port: int | None = None
    ) -> HubbubProcess:
        """Start one of gateway, posts, auth from its environment."""
        port = free_ports() if port is None else port
        place = ["--host", "127.0.0.1", "--port", str(port)]
        return self.start(name, *place, *options, port=port, env=env)

    def start(
        self,
        *arguments: str,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        module: str = "hubbub",
        script: Path | str | None = None,
        cwd: Path | None = None,
    ) -> HubbubProcess:
        """Start any command; its output lies in a file named after it."""
        name = arguments[0] if module == "hubbub" else module
        log_file = self.home / f"{len(self._started)}-{name}.log"
        process = HubbubProcess(
            *arguments,
            log_file=log_file,
            env=env,
            port=port,
            module=module,
            script=script,
            cwd=cwd,
        )
        self._started.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(f"--- {' '.join(p.arguments)}\n{p.log}" for p in self._started)

    def end(self) -> None:
        for process in self._started:
            process.process.terminate()
        for process in self._started:
            try:
                process.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def processes_in(home: Path) -> Iterator[Processes]:
    """Processes whose logs lie in ``home``; all are gone at the end."""
    started = Processes(home)
    try:
        yield started
    finally:
        started.end()
