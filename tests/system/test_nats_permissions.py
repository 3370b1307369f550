"""Each service under a user of its own, who may do what its work takes and no more."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from pydantic import BaseModel

from hubbub_client.bus import Events, connect
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.subjects import CTL_LIVE, CTL_PUB, RT_PUB
from hubbub_client.jetstream.api import ApiError, JetStreamApi
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import BusUnavailable, connect_bus
from shared.jetstream.follower import Follower
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, StreamSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, Revocation, Revocations, UserRevoked
from tests.auth_service.people import SIGNING_KEY, bearer, register, sign_in, sign_out
from tests.fixtures import plain_http
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.ports import free_ports
from tests.fixtures.waiting import eventually
from tests.system.conftest import API_KEY, SECRET, assert_no_secrets_and_no_tracebacks
from tests.system.nats_accounts import (
    Allowed,
    start_with_accounts,
    unused,
    url_of,
    violations,
)
from tests.system.processes import HubbubProcess, Processes, until
from tests.system.tab import Tab, open_tab

ANSWER_SECONDS = 20.0
# A gateway's own lease ends the stream, so only replicas that lag make it ask the leader.
TAKES_A_CLUSTER = Allowed("gateway", "PUB", "$JS.API.STREAM.MSG.GET.PRES")


class Deployment:
    """The services as an operator runs them: each with its own user, auth for the tokens."""

    def __init__(self, nats: NatsServer, processes: Processes, home: Path) -> None:
        self.nats = nats
        self._processes = processes
        self._home = home
        (home / "key.pem").write_text(SIGNING_KEY)
        self.auth_port = free_ports()

    def start(self, *command: str, user: str, **more: str) -> HubbubProcess:
        return self._processes.start(*command, env=self._environment(user) | more)

    def run(self, *command: str, user: str, **more: str) -> None:
        """A command that ends by itself."""
        done = self.start(*command, user=user, **more)
        assert done.wait(seconds=30) == 0, done.log

    def migrate(self) -> None:
        for service in ("auth", "posts"):
            self.run("migrate", "--service", service, user=service)

    def serve(self, service: str) -> HubbubProcess:
        started = self._processes.service(
            service,
            env=self._environment(service),
            port=self.auth_port if service == "auth" else None,
        )
        started.until_ready()
        return started

    def _environment(self, user: str) -> dict[str, str]:
        environment = {
            "HUBBUB_NATS_URL": url_of(self.nats, user),
            "HUBBUB_DATABASE_URL": f"sqlite:///{self._home / user}.db",
            "HUBBUB_JWKS_URL": f"http://127.0.0.1:{self.auth_port}/auth/.well-known/jwks.json",
            "HUBBUB_API_KEY": API_KEY,
            "HUBBUB_GATEWAY_RPC_OVER_BUS": "true",
            "HUBBUB_GATEWAY_LEASE_SECONDS": "4",
            "HUBBUB_GATEWAY_RENEW_SECONDS": "1",
            "HUBBUB_GATEWAY_PRESENCE_GRACE_SECONDS": "0.2",
        }
        if user == "auth":
            environment["HUBBUB_AUTH_SIGNING_KEY_FILE"] = str(self._home / "key.pem")
        return environment


async def test_each_service_does_its_work_with_what_its_user_may_and_needs_all_of_it(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)

    await use_everything(Deployment(server, processes, tmp_path))

    assert violations(server) == []
    assert "permissions violation" not in processes.logs()
    assert unused(server) == [TAKES_A_CLUSTER]
    assert "sesame" not in processes.logs()
    assert_no_secrets_and_no_tracebacks(processes.logs())


async def test_a_service_with_a_wrong_password_is_not_ready_and_says_so_once(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    gateway = processes.service(
        "gateway",
        env={
            "HUBBUB_NATS_URL": url_of(server, "gateway", "sesame-wrong"),
            "HUBBUB_HMAC_SECRET": SECRET,
        },
    )
    until(lambda: server.log.count("authentication error") >= 3, why="it tried again and again")

    answer = plain_http.get(f"{gateway.url}/readyz")
    assert answer.status_code == 503
    assert "not connected" in answer.json()["detail"]
    assert gateway.log.count("Authorization Violation") == 1
    assert "sesame" not in gateway.log
    assert gateway.stop() == 0


async def test_the_posts_service_publishes_into_no_channel_hears_none_and_asks_nobody(
    nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    forbidden = ["rt.pub.chat:lobby", "eph.chat:lobby", "gw.all.disconnect", "rpc.answers.stop"]
    unheard = ["rt.live.>", "eph.>", "_INBOX_gateway.>", "gw.>", "rpc.>"]
    async with connect_bus(url_of(server, "posts"), name="posts") as bus:
        await bus.until_connected()
        for subject in forbidden:
            bus.send(subject, b"{}")
        for subject in unheard:
            await bus.subscribe(subject, lambda *_message: None)

        await eventually(
            lambda: all(
                subject in "".join(violations(server)) for subject in [*forbidden, *unheard]
            )
        )


async def test_an_application_can_disturb_neither_the_gateways_consumer_nor_streams_nor_services(
    nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    of_notify = [
        "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.notify", "$JS.API.CONSUMER.CREATE.EVENTS.notify",
        "$JS.API.CONSUMER.CREATE.EVENTS.notify.events.posts.post_liked",
        "$JS.API.CONSUMER.INFO.EVENTS.notify", "$JS.API.CONSUMER.DELETE.EVENTS.notify",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.notify", "$JS.API.CONSUMER.UNPIN.EVENTS.notify",
        "$JS.API.CONSUMER.PAUSE.EVENTS.notify", "$JS.API.CONSUMER.RESET.EVENTS.notify",
        "$JS.ACK.EVENTS.notify.1.1.1.1.0",
    ]  # fmt: skip
    of_streams = [
        "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.PURGE.RT", "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.CONSUMER.DURABLE.CREATE.RT.mine",
    ]  # fmt: skip
    of_services = [
        "events.posts.post_liked", "events.auth.signed_in", "ctl.pub.auth.all", "pres.st.a.b.c",
        "gw.all.disconnect", "rpc.answers.stop", "rt.live.chat:lobby", "_INBOX_gateway.1",
    ]  # fmt: skip
    unheard = ["rt.live.>", "eph.>", "events.>", "ctl.live.>", "gw.>", "_INBOX_gateway.>"]
    async with connect_bus(url_of(server, "application"), name="application") as bus:
        await bus.until_connected()
        for subject in [*of_notify, *of_streams, *of_services]:
            bus.send(subject, b"{}")
        for subject in unheard:
            await bus.subscribe(subject, lambda *_message: None)

        await eventually(
            lambda: all(
                f'"{subject}"' in "".join(violations(server))
                for subject in [*of_notify, *of_streams, *of_services, *unheard]
            )
        )


async def test_nobody_is_signed_out_by_a_revocation_that_an_application_has_delivered(
    nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    revocations, heard = Revocations(max_token_seconds=3600), list[Revocation | None]()
    async with (
        connect_bus(url_of(server, "root"), name="root") as root,
        connect_bus(url_of(server, "posts"), name="posts") as posts,
        connect_bus(url_of(server, "application"), name="application") as bus,
    ):
        await bootstrap(root)
        control = Follower(
            posts, "CTL", CTL_PUB, CTL_LIVE, from_start=True,
            deliver=lambda message: heard.append(revocations.apply(message.payload)),
        )  # fmt: skip
        async with running(control.run), start_publisher(bus) as publisher:
            await control.until_caught_up()
            config = {"durable_name": "evil", "filter_subject": "events.evil.session_revoked"}
            await JetStreamApi(bus).create_consumer("EVENTS", config)
            forged = UserRevoked(user_id=UserId("17")).model_dump_json().encode()
            await publisher.publish("events.evil.session_revoked", forged, message_id="1")
            JetStreamApi(bus).request_next(
                "EVENTS", "evil", batch=1, expires_seconds=1, group=None, pin=None,
                reply=SESSION_REVOKED_SUBJECT,
            )  # fmt: skip
            await eventually(lambda: control.position == 1)

    assert violations(server) == []
    assert heard == []


async def test_an_application_cannot_make_the_gateways_consumer_under_another_subject(
    nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(nats_server, tmp_path)
    async with (
        connect_bus(url_of(server, "root"), name="root") as root,
        connect_bus(url_of(server, "application"), name="application") as bus,
    ):
        await bootstrap(root)
        before = await JetStreamApi(root).consumer_info("EVENTS", NOTIFY_CONSUMER)
        config = {"durable_name": NOTIFY_CONSUMER, "ack_policy": "explicit"}
        request = {"stream_name": "EVENTS", "config": config}

        with pytest.raises(ApiError, match="does not match"):
            await JetStreamApi(bus).request(
                "CONSUMER.DURABLE.CREATE", "EVENTS", "mine", request=request
            )

        assert await JetStreamApi(root).consumer_info("EVENTS", NOTIFY_CONSUMER) == before


async def test_a_bus_that_knows_older_accounts_is_named_as_what_keeps_the_streams_from_being_made(
    nats_server: StartServer, tmp_path: Path
) -> None:
    server = start_with_accounts(
        nats_server, tmp_path, without="$JS.API.CONSUMER.INFO.EVENTS.notify"
    )
    async with connect_bus(url_of(server, "root"), name="root") as bus:
        await bootstrap(bus)
    async with connect_bus(url_of(server, "bootstrap"), name="bootstrap") as bus:
        reason = ""
        async with asyncio.timeout(30):
            while not reason.endswith("see accounts.conf"):  # it came no further in that time
                with pytest.raises(BusUnavailable) as told:
                    await bootstrap(bus, StreamSettings(request_seconds=0.2, deadline_seconds=1))
                reason = str(told.value).lower()
        assert re.search(r"violation for publish .*consumer\.info", reason)


async def use_everything(deployment: Deployment) -> None:
    """Have each service do each kind of its work, in good times and bad."""
    deployment.run("bootstrap", user="bootstrap")
    deployment.run("bootstrap", user="bootstrap", HUBBUB_MAX_TOKEN_SECONDS="7200")  # an update
    deployment.migrate()
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(a_client_of(deployment.serve("auth")))
        ada, grace, gone = [await a_token(auth, name) for name in ("Ada", "Grace", "Gone")]
        await sign_out(auth, gone)
        until(lambda: "PUB ctl.pub.auth." in deployment.nats.log, why="the revocation is stored")
        first, second, service = map(deployment.serve, ("gateway", "gateway", "posts"))
        posts = await stack.enter_async_context(a_client_of(service))
        adas = await stack.enter_async_context(open_tab(first.ws_url, ada))
        graces = await stack.enter_async_context(open_tab(second.ws_url, grace))

        await adas.say("m1", "hello")
        await graces.until(lambda f: f["type"] == "message" and f["body"] == "hello")
        await say_over_http(first)
        await pass_on_over_http(first)
        await command_over_another(first, second, ada)
        post = await posts.post("/posts", json={"title": "t", "body": "b"}, headers=bearer(ada))
        like = f"/posts/{post.json()['id']}/like"
        assert (await posts.post(like, headers=bearer(grace))).status_code == 200
        await adas.until(lambda f: f["type"] == "notification")
        deployment.run("publish", "chat:lobby", '"from a shell"', user="operator")
        deployment.run("doctor", user="operator")

        await be_an_application(deployment.nats)

        await sign_out(auth, grace)
        assert await graces.until_closed() == (1008, "Session ended")

        other = await a_token(auth, "Other")
        await stack.enter_async_context(open_tab(second.ws_url, other))
        await adas.until(lambda f: f["type"] == "user_joined" and f["name"] == "Other")
        second.kill()
        await adas.until(lambda f: f["type"] == "user_left" and f["name"] == "Other")
        assert (await posts.post(like, headers=bearer(other))).status_code == 200
        await adas.until(lambda f: f["type"] == "notification" and f["liked_by"] == "Other")

        await leave_a_hole(deployment.nats, "RT", RT_PUB)
        await leave_a_hole(deployment.nats, "CTL", CTL_PUB)
        third, _ = map(deployment.serve, ("gateway", "posts"))
        tail_from_start(deployment)
        await say_over_http(third)
        assert first.stop() == 0
        await come_back(adas, third)


class InvoicePaid(BaseModel):
    """An event of an application's own."""

    invoice_id: int


async def be_an_application(server: NatsServer) -> None:
    """Publish into channels, and consume an event of one's own."""
    url, events, handled = url_of(server, "application"), Events("mailer"), asyncio.Event()

    @events.on(InvoicePaid)
    async def handle(event: InvoicePaid) -> None:
        handled.set()

    async with connect(url, service="shop") as hubbub, events.running(url):
        await events.until_ready()
        for _ in range(2):
            await hubbub.publish("chat:lobby", "from an application", idempotency_key="1")
        await hubbub.publish_ephemeral("chat:lobby", "for those who are there")
        await hubbub.emit(InvoicePaid(invoice_id=17))
        async with asyncio.timeout(ANSWER_SECONDS):
            await handled.wait()


def a_client_of(service: HubbubProcess) -> httpx2.AsyncClient:
    return plain_http.client(base_url=service.url)


async def a_token(auth: httpx2.AsyncClient, name: str) -> str:
    email = f"{name.lower()}@example.com"
    assert (await register(auth, email, name=name)).status_code == 201
    return str((await sign_in(auth, email)).json()["access_token"])


async def say_over_http(gateway: HubbubProcess) -> None:
    """But for the first time the stream has to be asked whether it is the same."""
    body = {"channel": "chat:lobby", "data": {"text": "hi"}, "idempotency_key": "k"}
    async with a_client_of(gateway) as api:
        answer = await api.post("/api/publish", json=body, headers={"X-API-Key": API_KEY})
        assert answer.status_code == 200


async def pass_on_over_http(gateway: HubbubProcess) -> None:
    """To whoever is there, past the streams."""
    body = {"channel": "chat:lobby", "data": "somebody types", "skip_history": True}
    async with a_client_of(gateway) as api:
        answer = await api.post("/api/publish", json=body, headers={"X-API-Key": API_KEY})
        assert answer.json() == {"result": {}}


async def command_over_another(one: HubbubProcess, two: HubbubProcess, token: str) -> None:
    """Send a stream's command to a gateway that has to pass it on."""
    body = {"id": 1, "connect": {"token": token}}
    async with (
        a_client_of(one) as streaming,
        a_client_of(two) as passing,
        streaming.stream("POST", "/connection/http_stream", json=body) as stream,
    ):
        lines = stream.aiter_lines()
        connected = json.loads(await anext(lines))["connect"]
        whose = {name: connected[name] for name in ("session", "node")}
        command = json.dumps({"id": 2, "rpc": {"method": "m"}})
        answer = await passing.post("/emulation", json=whose | {"data": command})
        assert answer.status_code == 204
        assert json.loads(await anext(lines))["error"]["code"] == 108


def tail_from_start(deployment: Deployment) -> None:
    tail = deployment.start("tail", "chat:lobby", "--from-start", user="operator")
    tail.until_logged("from a shell")
    tail.until_logged("listening to")
    tail.stop()


async def leave_a_hole(server: NatsServer, stream: str, prefix: str) -> None:
    """Remove the stream's newest message, so that replicas can't tell that none follows."""
    subject = f"{prefix}hole"
    async with connect_bus(url_of(server, "root"), name="root") as bus:
        await bus.until_connected()
        async with start_publisher(bus) as publisher:
            await publisher.publish(
                subject, b"", message_id="hole", deadline_seconds=ANSWER_SECONDS
            )
        answer = await bus.request(
            f"$JS.API.STREAM.PURGE.{stream}",
            json.dumps({"filter": subject}).encode(),
            timeout_seconds=ANSWER_SECONDS,
        )
    assert json.loads(answer)["purged"] == 1


async def come_back(tab: Tab, gateway: HubbubProcess) -> None:
    """Open a tab again that missed what the gateway has never heard of, and has to read."""
    since = tab.of_type("message")[0]["offset"] - 1
    tab.url, tab.since, tab.frames = gateway.ws_url, since, []
    async with asyncio.TaskGroup() as group:
        living = group.create_task(tab.live())
        await tab.until(lambda f: f["type"] == "message" and f["body"] == "hello")
        living.cancel()
