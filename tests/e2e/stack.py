"""What a scenario sees of the system under test, whether it runs in containers or as processes."""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.fault_control import FaultControl

START_SECONDS = 60.0
"""From the start of a part until it is ready; PostgreSQL may have to recover first."""
STOP_SECONDS = 40.0
"""From SIGTERM to the end of a part, the drain of a gateway included."""
COMMAND_SECONDS = 30.0
"""For one command inside of a part."""

GATEWAYS = ("gateway-1", "gateway-2")
SERVICES = ("auth", "posts", *GATEWAYS)


@dataclass(frozen=True)
class Answer:
    """What a service says to who asks it directly, past the edge."""

    status: int
    text: str


class Part(Protocol):
    """One server of the system. What a test does to it, `Stack.heal` undoes."""

    name: str

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        ...

    def kill(self) -> None:
        """SIGKILL, now."""
        ...

    def start(self) -> None:
        """Again, after `stop` or `kill`, with what it had stored; it may not be ready yet."""
        ...

    def pause(self) -> None:
        """It hangs, and its sockets stay open."""
        ...

    def go_on(self) -> None: ...

    def cut_off(self) -> None:
        """Nothing reaches it nor comes from it, and nobody is told; nobody finds it either."""
        ...

    def reconnect(self) -> None:
        """It is found again. Connections of before stay dead."""
        ...

    def log(self) -> str:
        """What it has printed in all its lives."""
        ...


class Service(Part, Protocol):
    """A part that is one of Hubbub's own processes."""

    def get(self, path: str) -> Answer:
        """Ask it from inside, past the edge. Status 0: nobody answers."""
        ...

    def until_ready(self) -> None: ...

    def replace(self) -> int:
        """SIGTERM, then a new one in its place; the exit status of the old one."""
        ...

    def run_python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a script where the service runs, with the service's own settings."""
        ...


class FarGateway(Protocol):
    """A third gateway, not behind the edge, whose way to NATS leads through a fault proxy."""

    ws_url: str
    faults: FaultControl
    """Of its fault proxy."""


class Stack(Protocol):
    """The whole system, as its users reach it and as its operators do."""

    in_containers: bool
    url: str
    """Of the edge: the only thing that is reachable from outside."""
    began: float
    """When its start began, as `time.monotonic` has it; nothing was built after that."""

    @property
    def ws_url(self) -> str: ...

    @property
    def auth(self) -> Service: ...

    @property
    def posts(self) -> Service: ...

    @property
    def gateways(self) -> Sequence[Service]: ...

    @property
    def nats(self) -> Part: ...

    @property
    def postgres(self) -> Part: ...

    def stranger(self, service: str, *, nats_password: str) -> AbstractContextManager[Service]:
        """One more of a service, started with another password for NATS than its own."""
        ...

    def far_gateway(self) -> AbstractContextManager[FarGateway]: ...

    def describe(self) -> str:
        """What it runs on, in a few words."""
        ...

    def heal(self) -> None:
        """Bring back whatever is stopped, paused or cut off; return when all are ready."""
        ...

    def logs(self) -> Mapping[str, str]:
        """What each part has printed so far, by its name."""
        ...

    def secrets(self) -> Sequence[str]:
        """What must never be in a log."""
        ...


def keep_logs(logs: Mapping[str, str], folder: Path) -> None:
    """Write each part's log into a file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, log in logs.items():
        (folder / f"{name}.log").write_text(log)
