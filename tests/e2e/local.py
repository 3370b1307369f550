"""The system as processes of this machine, where no Docker engine answers.

NATS has the accounts of the containers. Its clients reach it through a fault proxy, so that it
can be cut off as a container is from its network: open connections die without a word, and it
is not found any more.
"""

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hubbub.system import WEB
from tests.e2e.edge import Edge, edge_in_thread
from tests.e2e.fault_control import FaultControl
from tests.e2e.reach import until_is_ready
from tests.e2e.stack import COMMAND_SECONDS, GATEWAYS, START_SECONDS, STOP_SECONDS, Answer
from tests.fixtures.databases import PostgresServer, execute
from tests.fixtures.nats import NatsServer
from tests.fixtures.ports import free_ports
from tests.system.processes import HubbubProcess, Processes, processes_in, until

ROOT = Path(__file__).parent.parent.parent
ACCOUNTS = ROOT / "deploy" / "nats" / "accounts.conf"
FAULT_PROXY = Path(__file__).with_name("fault_proxy.py")
BUS_USERS = ("gateway", "posts", "auth", "bootstrap", "operator", "application")
DATABASES = ("auth", "posts")
HOST = "127.0.0.1"
ANSWER_SECONDS = 20.0


class LocalService:
    """One of Hubbub's processes; whoever takes its place listens on the same port."""

    def __init__(self, name: str, kind: str, environment: Mapping[str, str], all_: Processes):
        self.name = name
        self.environment = environment
        self.port = free_ports()
        self._kind = kind
        self._processes = all_
        self._lives: list[HubbubProcess] = []

    @property
    def _life(self) -> HubbubProcess:
        return self._lives[-1]

    @property
    def runs(self) -> bool:
        return bool(self._lives) and self._life.process.poll() is None

    def start(self) -> None:
        life = self._processes.service(self._kind, env=self.environment, port=self.port)
        self._lives.append(life)

    def stop(self) -> int:
        self._life.process.terminate()
        return self._life.wait(seconds=STOP_SECONDS)

    def kill(self) -> None:
        self._life.kill()

    def replace(self) -> int:
        status = self.stop()
        self.start()
        return status

    def get(self, path: str) -> Answer:
        connection = HTTPConnection(HOST, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
        except OSError as error:
            return Answer(0, repr(error))
        finally:
            connection.close()

    def until_ready(self) -> None:
        until_is_ready(self)

    def run_python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-", *arguments],
            input=script,
            env={"PYTHONPATH": str(ROOT), **self.environment},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def log(self) -> str:
        return "".join(life.log for life in self._lives)

    def pause(self) -> None:
        raise NotImplementedError("no scenario pauses a service")

    go_on = cut_off = reconnect = pause


class LocalNats:
    """The nats-server, and the way to it."""

    name = "nats"

    def __init__(self, server: NatsServer, way: FaultControl) -> None:
        self._server = server
        self._way = way
        self.runs = True

    def stop(self) -> int:
        self.runs = False
        self._server.stop()
        return 0

    def kill(self) -> None:
        self.runs = False
        self._server.kill()

    def start(self) -> None:
        self._server.start()
        self.runs = True

    def pause(self) -> None:
        self._server.pause()

    def go_on(self) -> None:
        self._server.go_on()

    def cut_off(self) -> None:
        self._way.set(refusing=True)
        self._way.cut_all()

    def reconnect(self) -> None:
        self._way.set()

    def log(self) -> str:
        return self._server.log


class LocalPostgres:
    """The test run's PostgreSQL."""

    name = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.runs = True

    def stop(self) -> int:
        self.kill()
        return 0

    def kill(self) -> None:
        self._server.kill()
        self.runs = False

    def start(self) -> None:
        self._server.start()
        self.runs = True

    def log(self) -> str:
        return ""  # the fixture's, which other tests share

    def pause(self) -> None:
        raise NotImplementedError("no scenario pauses PostgreSQL")

    go_on = cut_off = reconnect = pause


class LocalFarGateway:
    """A gateway and the fault proxy between it and NATS."""

    def __init__(self, service: LocalService, faults: FaultControl) -> None:
        self.ws_url = f"ws://{HOST}:{service.port}"
        self.faults = faults


class LocalStack:
    """Everything as processes, behind an edge in a thread of ours."""

    in_containers = False

    def __init__(self, home: Path, resources: ExitStack, postgres: PostgresServer) -> None:
        self.began = time.monotonic()
        self._resources = resources
        self._passwords = {user: secrets.token_urlsafe(24) for user in BUS_USERS}
        self._started = resources.enter_context(_processes(home / "processes"))
        self._server = _nats_with_accounts(home / "nats", self._passwords, resources)
        self._nats_port, way = self._fault_proxy(self._server.port)
        self.nats = LocalNats(self._server, way)
        self.postgres = LocalPostgres(postgres)
        self._databases = {name: _a_database(postgres, name) for name in DATABASES}
        self._signing_key = _a_signing_key()
        self._api_key = secrets.token_urlsafe(24)
        self._strangers: list[LocalService] = []
        self._prepare()
        self.auth = self._service("auth", "auth")
        self._jwks_url = f"http://{HOST}:{self.auth.port}/auth/.well-known/jwks.json"
        self.posts = self._service("posts", "posts")
        self.gateways = [self._service(name, "gateway") for name in GATEWAYS]
        for service in self._services:
            service.start()
        port = free_ports()
        self.url = f"http://{HOST}:{port}"
        resources.enter_context(edge_in_thread(self._edge(), port))
        self.heal()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def _services(self) -> list[LocalService]:
        return [self.auth, self.posts, *self.gateways]

    @contextmanager
    def stranger(self, service: str, *, nats_password: str) -> Iterator[LocalService]:
        kind = service.partition("-")[0]
        environment = self._environment(kind)
        environment["HUBBUB_NATS_URL"] = self._nats_url(kind, nats_password)
        with self._one_more(f"stranger-{service}", kind, environment) as started:
            yield started

    @contextmanager
    def far_gateway(self) -> Iterator[LocalFarGateway]:
        port, faults = self._fault_proxy(self._nats_port)
        environment = self._environment("gateway")
        password = self._passwords["gateway"]
        environment["HUBBUB_NATS_URL"] = self._nats_url("gateway", password, port=port)
        with self._one_more("gateway-far", "gateway", environment) as started:
            started.until_ready()
            yield LocalFarGateway(started, faults)

    def describe(self) -> str:
        return "on processes of this machine"

    def heal(self) -> None:
        self.nats.go_on()
        self.nats.reconnect()
        parts: list[LocalNats | LocalPostgres | LocalService]
        parts = [self.nats, self.postgres, *self._services]
        for part in parts:
            if not part.runs:
                part.start()
        for service in self._services:
            service.until_ready()

    def logs(self) -> Mapping[str, str]:
        services = {service.name: service.log() for service in (*self._services, *self._strangers)}
        return {"nats": self.nats.log(), **services}

    def secrets(self) -> Sequence[str]:
        lines_of_key = self._signing_key.splitlines()[1:-1]
        return [*self._passwords.values(), self._api_key, *lines_of_key]

    def _prepare(self) -> None:
        url = self._nats_url("bootstrap", self._passwords["bootstrap"])
        jobs = [self._started.start("bootstrap", env={"HUBBUB_NATS_URL": url})]
        for name, database in self._databases.items():
            environment = {"HUBBUB_DATABASE_URL": database}
            jobs.append(self._started.start("migrate", "--service", name, env=environment))
        for job in jobs:
            assert job.wait(seconds=START_SECONDS) == 0, job.log

    def _service(self, name: str, kind: str) -> LocalService:
        return LocalService(name, kind, self._environment(kind), self._started)

    def _environment(self, kind: str) -> dict[str, str]:
        common = {
            "HUBBUB_NATS_URL": self._nats_url(kind, self._passwords[kind]),
            "HUBBUB_FORWARDED_ALLOW_IPS": HOST,
        }
        if kind in DATABASES:
            common["HUBBUB_DATABASE_URL"] = self._databases[kind]
        if kind == "auth":
            return common | {"HUBBUB_AUTH_SIGNING_KEY": self._signing_key}
        common["HUBBUB_JWKS_URL"] = self._jwks_url
        return common | ({"HUBBUB_API_KEY": self._api_key} if kind == "gateway" else {})

    def _nats_url(self, user: str, password: str, *, port: int | None = None) -> str:
        return f"nats://{user}:{quote(password)}@{HOST}:{port or self._nats_port}"

    def _edge(self) -> Edge:
        auth, posts = [(HOST, self.auth.port)], [(HOST, self.posts.port)]
        gateways = [(HOST, gateway.port) for gateway in self.gateways]
        by_path = {"auth": auth, "posts": posts, "notifications": posts, "emulation": gateways}
        return Edge({**by_path, "ws": gateways, "connection": gateways}, page=WEB)

    @contextmanager
    def _one_more(
        self, name: str, kind: str, environment: Mapping[str, str]
    ) -> Iterator[LocalService]:
        service = LocalService(name, kind, environment, self._started)
        self._strangers.append(service)
        service.start()
        try:
            yield service
        finally:
            if service.runs:
                service.stop()

    def _fault_proxy(self, upstream_port: int) -> tuple[int, FaultControl]:
        """A fault proxy as a process, as it is a container elsewhere; its port and its control."""
        port, control_port = free_ports(), free_ports()
        ports = [str(port), f"{HOST}:{upstream_port}", str(control_port)]
        process = subprocess.Popen([sys.executable, str(FAULT_PROXY), *ports])
        self._resources.callback(process.wait, COMMAND_SECONDS)
        self._resources.callback(process.terminate)
        control = FaultControl(f"http://{HOST}:{control_port}")
        until(control.answers, seconds=START_SECONDS, why="a fault proxy")
        return port, control


@contextmanager
def local_stack(home: Path, postgres: PostgresServer) -> Iterator[LocalStack]:
    """The whole system on free ports of this machine; all of it is gone at the end."""
    with ExitStack() as resources:
        yield LocalStack(home, resources, postgres)


@contextmanager
def _processes(home: Path) -> Iterator[Processes]:
    home.mkdir(parents=True)
    with processes_in(home) as started:
        yield started


def _nats_with_accounts(
    home: Path, passwords: Mapping[str, str], resources: ExitStack
) -> NatsServer:
    """A server with the accounts of the containers, and passwords of this run."""
    folder = home / "secrets"
    folder.mkdir(parents=True)
    lines = [f'{user.upper()}_PASSWORD: "{word}"' for user, word in passwords.items()]
    (folder / "passwords.conf").write_text("\n".join(lines))
    shutil.copy(ACCOUNTS, home)
    server = NatsServer(home, f'include "{ACCOUNTS.name}"\nmax_payload: 256KB\n')
    resources.callback(server.stop)
    server.start()
    return server


def _a_database(postgres: PostgresServer, service: str) -> str:
    name = f"e2e_{service}_{secrets.token_hex(4)}"
    execute(postgres.url("postgres"), f"CREATE DATABASE {name}")
    return postgres.url(name)


def _a_signing_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
