"""`hubbub up`: the whole system in one process."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import httpx2
from prometheus_client import CollectorRegistry

from auth_service.app import AuthParts
from auth_service.signing import make_signing_key
from hubbub.channels import channels_of
from hubbub.children import Child
from hubbub.data_folder import DataFolder, Running
from hubbub.demo import (
    DEMO_PASSWORD,
    DemoUser,
    delete_demo_users,
    ensure_demo_users,
)
from hubbub.environment import inherited_environment
from hubbub.gateways import gateway_child
from hubbub.nats_child import nats_server, store_room
from hubbub.progress import saying
from hubbub.stop_early import ignore_stop_signals
from hubbub.system import (
    OWN_BUS,
    Settings,
    System,
    kept_streams,
    prepare_databases,
    running_system,
)
from shared.runtime.listening import listen
from shared.runtime.process import Server, run, running, server_config, stop_signals
from shared.runtime.settings import ServiceSettings, read_settings
from shared.runtime.supervision import Supervisor
from shared.runtime.telemetry import configure_logging
from shared.runtime.version import running_version
from shared.web.addresses import is_loopback
from shared.web.open_files import allow_open_files

GRACEFUL_SECONDS = 1.0
"""For requests that are being answered at the stop."""
READY_POLL_SECONDS = 0.05
NOT_READY_SECONDS = 5.0
"""Between two lines that say what `up` is waiting for."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of the command line."""

    host: str
    port: int
    data: Path
    gateways: int


def run_up(options: UpOptions) -> None:
    """Serve until a signal; a second one changes nothing."""
    configure_logging(_log_level(), json=False)
    allow_open_files()
    os.umask(0o077)  # the files hold keys, messages and password hashes
    run(_until_stopped(options))


def _log_level() -> str:
    settings = read_settings(ServiceSettings, nats_url="nats://127.0.0.1", **OWN_BUS)
    return settings.log_level


async def _until_stopped(options: UpOptions) -> None:
    serving = asyncio.Event()
    with stop_signals() as stop:
        async with asyncio.TaskGroup() as group:
            life = group.create_task(_live(options, stop, serving))
            stopping = group.create_task(stop.wait())
            await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not serving.is_set():
                life.cancel()  # closes what was started so far, in order
    ignore_stop_signals()


async def _live(options: UpOptions, stop: asyncio.Event, serving: asyncio.Event) -> None:
    folder = DataFolder(options.data)
    folder.create()
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    async with AsyncExitStack() as held:
        held.enter_context(folder.locked())
        taken = held.enter_context(listen(options.host, options.port))
        port = taken.getsockname()[1]
        further = range(port + 1, port + options.gateways)
        for each in further:
            listen(options.host, each).close()  # report a taken port now, before a child fails
        with saying("starting nats-server"):
            nats = await held.enter_async_context(nats_server(folder.nats, supervisor=supervisor))
        make_signing_key(folder.signing_key)
        bus_urls = nats.urls()
        settings = Settings.on(folder, nats_urls=bus_urls)
        settings.gateway.check_host(options.host)
        await prepare_databases(settings)
        room = store_room(folder.nats)
        await held.enter_async_context(
            kept_streams(bus_urls["bootstrap"], settings, store_bytes=room, supervisor=supervisor)
        )
        with saying("starting the services"):
            system = await held.enter_async_context(
                running_system(settings, registry=registry, supervisor=supervisor)
            )
            users = await _demo_users(system.auth, options.host)
        url = _origin(options.host, port)
        origins = [_origin(options.host, each) for each in further]
        announcement = Running(
            pid=os.getpid(),
            version=running_version(),
            url=url,
            gateways=tuple(origins),
            nats_url=nats.url,
            channels=channels_of(settings.gateway),
        )
        held.enter_context(folder.announced(announcement, bus_urls=bus_urls))
        children = [_gateway(options.host, each, url, settings, folder) for each in further]
        config = server_config(
            system.app,
            forwarded_allow_ips=settings.gateway.forwarded_allow_ips,
            **system.server_options,
        )
        drain = _drain_of(system, children)
        http = Server(
            config,
            stop=stop,
            drain=drain,
            graceful_seconds=GRACEFUL_SECONDS,
            limits=settings.gateway.peer_limits,
        )
        banner = _banner(announcement, origins, users, folder)
        serving.set()
        async with running(
            *(partial(_run_when_complete, system.auth, child) for child in children),
            lambda: _greet(http, system, origins, banner),
        ):
            await http.serve(sockets=[taken])


async def _demo_users(auth: AuthParts, host: str) -> list[DemoUser]:
    if is_loopback(host):
        return await ensure_demo_users(auth)
    if await delete_demo_users(auth):
        click.echo(
            f"the demo users are deleted, as others may reach {host} and their password is public;"
            " what they wrote stays, with their names"
        )
    return []


def _origin(host: str, port: int) -> str:
    """The origin for a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _gateway(host: str, port: int, origin: str, settings: Settings, folder: DataFolder) -> Child:
    """A further gateway, with the same bus, issuer and `/api` key."""
    inherited = inherited_environment()
    ours = {
        "HUBBUB_NATS_URL_FILE": str(folder.bus_url_file("gateway")),
        "HUBBUB_AWAIT_AUTH_SERVICE": str(settings.gateway.awaits_auth_service).lower(),
        "HUBBUB_JWKS_URL": f"{origin}/auth/.well-known/jwks.json",
        "HUBBUB_GATEWAY_DRAIN_SECONDS": str(settings.gateway.drain_seconds),
    }
    if inherited.keys().isdisjoint({"HUBBUB_API_KEY", "HUBBUB_API_KEY_FILE"}):
        ours["HUBBUB_API_KEY_FILE"] = str(folder.api_key_file)
    # What is said of another bus or issuer is not for it, by value or by file.
    replaced = {_setting(name) for name in ours} - {"HUBBUB_API_KEY"}
    replaced |= {"HUBBUB_NATS_CREDS", "HUBBUB_NATS_CA", "HUBBUB_JWKS_PROXY"}
    kept = {name: inherited[name] for name in inherited if _setting(name) not in replaced}
    drain_seconds = settings.gateway.drain_seconds
    return gateway_child(
        f"gateway:{port}", host, port, env=kept | ours, drain_seconds=drain_seconds
    )


def _setting(variable: str) -> str:
    return variable.removesuffix("_FILE")


async def _run_when_complete(auth: AuthParts, child: Child) -> None:
    """Start it once the auth service has checked the bus, whose store may come from a backup."""
    await auth.until_complete()
    await child.run()


def _drain_of(system: System, children: Sequence[Child]) -> Callable[[], Awaitable[None]]:
    async def drain() -> None:
        for child in children:
            child.ask_to_stop()  # they drain at the same time
        await system.drain()

    return drain


async def _greet(http: Server, system: System, origins: Sequence[str], banner: str) -> None:
    """Print the banner when everything is ready; until then, what is missing."""
    loop = asyncio.get_running_loop()
    next_word = loop.time() + 1
    async with httpx2.AsyncClient(verify=False, trust_env=False) as client:
        while not_ready := await _not_ready(http, system, origins, client):
            if loop.time() >= next_word:
                click.echo(f"… waiting: {'; '.join(not_ready)}")
                next_word = loop.time() + NOT_READY_SECONDS
            await asyncio.sleep(READY_POLL_SECONDS)
    click.echo(banner)


async def _not_ready(
    http: Server, system: System, origins: Sequence[str], client: httpx2.AsyncClient
) -> list[str]:
    if not http.started:
        return ["the server is not listening yet"]
    reasons = system.ready()
    for origin in origins:
        try:
            answer = await client.get(f"{origin}/readyz", timeout=1.0)
        except httpx2.HTTPError:
            reasons.append(f"the gateway at {origin} does not answer yet")
        else:
            if answer.status_code != httpx2.codes.OK:
                reasons.append(f"the gateway at {origin} is not ready yet")
    return reasons


def _banner(
    running: Running, origins: Sequence[str], users: Sequence[DemoUser], folder: DataFolder
) -> str:
    lines = [f"Hubbub {running_version()} is ready: {running.url}"]
    if origins:
        sockets = " ".join(f"{each.replace('http', 'ws', 1)}/ws/chat" for each in origins)
        lines.append(f"  further gateways  {sockets}")
    if users:
        # The tabs of one browser share one session.
        emails = " or, in a private window, ".join(user.email for user in users)
        lines.append(f"  sign in as        {emails}, password {DEMO_PASSWORD}")
    lines.append(f"  data              {folder.path}")
    lines.append(f"  key of /api       {folder.api_key_file}")
    lines.append(f"  bus               {running.nats_url}")
    lines.append(f"  bus, application  {folder.bus_url_file('application')}")
    lines.append(f"  bus, by hand      {folder.bus_url_file('operator')}")
    return "\n".join(lines)
