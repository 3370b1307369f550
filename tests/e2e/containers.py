"""The system in containers, as ``docker compose up`` starts it, under a project of its own."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit

import pytest
from testcontainers.compose import DockerCompose

from tests.e2e.docker import docker, docker_output, logs_of
from tests.e2e.fault_control import FaultControl
from tests.e2e.reach import until_is_ready, until_the_edge_reaches_all
from tests.e2e.stack import (
    COMMAND_SECONDS,
    GATEWAYS,
    SERVICES,
    START_SECONDS,
    STOP_SECONDS,
    Answer,
    keep_logs,
)
from tests.fixtures.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
COMPOSE_FILES = ("compose.yaml", "tests/e2e/faults.yaml")
BUILD_SECONDS = 280.0
HOST = "127.0.0.1"
MEGABYTE = 1_000_000
NATS_ADDRESS = "nats:4222"

GET = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://127.0.0.1:8000" + sys.argv[1], timeout=3)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
sys.stdout.write(answer.read().decode())
"""
SECRETS = """
import json, os, pathlib
names = [name for name in os.environ if name.startswith("HUBBUB_") and name.endswith("_FILE")]
print(json.dumps([pathlib.Path(os.environ[name]).read_text().strip() for name in names]))
"""


class ContainerPart:
    """One container of the project."""

    def __init__(self, project: str, name: str, *, container: str = "") -> None:
        self.name = name
        self.container = container or f"{project}-{name}-1"
        self.touched = False
        self._network = f"{project}_bus"
        self._past = ""

    def stop(self) -> int:
        self._do("stop", seconds=STOP_SECONDS)
        return int(docker_output("inspect", "-f", "{{.State.ExitCode}}", self.container))

    def kill(self) -> None:
        self._do("kill")

    def start(self) -> None:
        self._do("start")

    def pause(self) -> None:
        self._do("pause")

    def go_on(self) -> None:
        self._do("unpause")

    def cut_off(self) -> None:
        self.touched = True
        docker_output("network", "disconnect", self._network, self.container)

    def reconnect(self) -> None:
        docker_output("network", "connect", "--alias", self.name, self._network, self.container)

    def log(self) -> str:
        return self._past + logs_of(self.container)

    def heal(self) -> None:
        """Undo what is undone by none of the above."""
        state = json.loads(docker_output("inspect", self.container))[0]
        if state["State"]["Paused"]:
            self.go_on()
        if self.name == "nats" and self._network not in state["NetworkSettings"]["Networks"]:
            self.reconnect()
        if not state["State"]["Running"]:
            self.start()
        self.touched = False

    def _do(self, verb: str, *, seconds: float = COMMAND_SECONDS) -> None:
        self.touched = True
        docker_output(verb, self.container, seconds=seconds)


class ContainerService(ContainerPart):
    """One of Hubbub's own processes, in its container."""

    def __init__(self, project: "Project", name: str, *, container: str = "") -> None:
        super().__init__(project.name, name, container=container)
        self._project = project

    def get(self, path: str) -> Answer:
        done = self.run_python(GET, path)
        if done.returncode:
            return Answer(0, done.stderr)
        status, _, text = done.stdout.partition("\n")
        return Answer(int(status), text)

    def until_ready(self) -> None:
        until_is_ready(self)

    def replace(self) -> int:
        status = self.stop()
        self._past = self.log()
        self._project.run("up", "--detach", "--no-deps", "--force-recreate", self.name)
        return status

    def run_python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return docker(
            "exec", "-i", self.container, "python", "-", *arguments,
            input=script, seconds=COMMAND_SECONDS,
        )  # fmt: skip


class ContainerFarGateway:
    """A gateway and the fault proxy between it and NATS, both with a port of this machine."""

    def __init__(self, project: "Project") -> None:
        proxy, gateway = (
            project.run("port", name, port).strip().rpartition(":")[2]
            for name, port in (("fault-proxy", "8474"), ("gateway-far", "8000"))
        )
        self.faults = FaultControl(f"http://{HOST}:{proxy}")
        self.ws_url = f"ws://{HOST}:{gateway}"


class Project:
    """Compose, for this run alone. Its variables are in the environment."""

    def __init__(self, name: str) -> None:
        self.name = name
        files = list(COMPOSE_FILES)
        # Everything that the edge waits for; the profiles' parts come when they are wanted.
        self.compose = DockerCompose(ROOT, files, services=["edge"])
        self._all = DockerCompose(ROOT, files, profiles=["*"])

    def run(self, *arguments: str, seconds: float = START_SECONDS) -> str:
        _docker, *command = self._all.docker_compose_command()
        return docker_output(*command, *arguments, seconds=seconds)

    def containers(self) -> Sequence[str]:
        label = f"label=com.docker.compose.project={self.name}"
        return docker_output("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()

    def short(self, container: str) -> str:
        """Without the project's name."""
        return container.removeprefix(f"{self.name}-")

    def end(self) -> None:
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "3")


class ContainerStack:
    """Everything behind the edge, whose port is all that this machine sees of it."""

    in_containers = True

    def __init__(self, project: Project, port: int, *, began: float) -> None:
        self.began = began
        self._project = project
        self.url = f"http://{HOST}:{port}"
        services = {name: ContainerService(project, name) for name in SERVICES}
        self.auth, self.posts = services["auth"], services["posts"]
        self.gateways = [services[name] for name in GATEWAYS]
        self.nats = ContainerPart(project.name, "nats")
        self.postgres = ContainerPart(project.name, "postgres")
        self._parts = [self.nats, self.postgres, *services.values()]
        self._gone: dict[str, str] = {}
        self._secrets = self._read_secrets()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @contextmanager
    def stranger(self, service: str, *, nats_password: str) -> Iterator[ContainerService]:
        name = f"stranger-{service}"
        user = service.partition("-")[0]
        url = f"nats://{user}:{nats_password}@{NATS_ADDRESS}"
        container = f"{self._project.name}-{name}-{token_hex(2)}"
        options = ["--detach", "--no-deps", "--name", container]
        instead_of_its_file = ["--env", f"HUBBUB_NATS_URL={url}", "--env", "HUBBUB_NATS_URL_FILE="]
        self._project.run("run", *options, *instead_of_its_file, service)
        started = ContainerService(self._project, name, container=container)
        try:
            yield started
        finally:
            self._let_go(name, container)

    @contextmanager
    def far_gateway(self) -> Iterator[ContainerFarGateway]:
        self._project.run("up", "--detach", "--no-deps", "fault-proxy", "gateway-far")
        gateway = ContainerService(self._project, "gateway-far")
        try:
            gateway.until_ready()
            yield ContainerFarGateway(self._project)
        finally:
            for name in ("gateway-far", "fault-proxy"):
                self._let_go(name, f"{self._project.name}-{name}-1")

    def describe(self) -> str:
        of_posts = docker_output("inspect", "-f", "{{.Image}}", self.posts.container)
        size = docker_output("image", "inspect", "-f", "{{.Size}}", of_posts)
        return f"in containers, the services' image has {int(size) / MEGABYTE:.0f} MB"

    def heal(self) -> None:
        touched = [part for part in self._parts if part.touched]
        for part in touched:
            part.heal()
        if touched:
            for service in (self.auth, self.posts, *self.gateways):
                service.until_ready()
            until_the_edge_reaches_all(self)

    def logs(self) -> Mapping[str, str]:
        project = self._project
        now = {project.short(name): logs_of(name) for name in project.containers()}
        return {**self._gone, **now, **{part.name: part.log() for part in self._parts}}

    def secrets(self) -> Sequence[str]:
        return self._secrets

    def _read_secrets(self) -> Sequence[str]:
        """From the files that the services read; of a URL only the password is one."""
        found: list[str] = []
        for service in (self.auth, self.posts, self.gateways[0]):
            done = service.run_python(SECRETS)
            assert done.returncode == 0, done.stderr
            for text in json.loads(done.stdout):
                password = urlsplit(text).password if "://" in text else None
                found += text.splitlines() if password is None else [unquote(password)]
        found.append(
            docker_output("exec", self.postgres.container, "cat", "/run/hubbub/postgres_password")
        )
        return sorted({line for line in found if not line.startswith("-----")})

    def _let_go(self, name: str, container: str) -> None:
        self._gone[name] = logs_of(container)
        docker_output("rm", "--force", "--volumes", container)


@contextmanager
def container_stack(logs_folder: Path) -> Iterator[ContainerStack]:
    """The whole system on a free port of this machine; all of it is gone at the end."""
    project = Project(f"hubbub-e2e-{token_hex(4)}")
    port = free_ports()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "COMPOSE_PROJECT_NAME": project.name,
            "HUBBUB_BIND": HOST,
            "HUBBUB_PORT": str(port),
        }.items():
            environment.setenv(name, value)
        try:
            project.run("build", "--quiet", seconds=BUILD_SECONDS)
            began = time.monotonic()
            try:
                project.compose.start()
                stack = ContainerStack(project, port, began=began)
            except Exception:
                logs = {project.short(name): logs_of(name) for name in project.containers()}
                keep_logs(logs, logs_folder / "at-the-start")
                raise
            yield stack
        finally:
            project.end()
