"""The three services as one application, and what it needs: settings, streams, databases."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import auth_service.app
import gateway.app
import posts_service.app
from auth_service.app import AuthParts
from auth_service.settings import AuthSettings
from gateway.settings import GatewaySettings
from hubbub.bootstrap import stream_settings
from hubbub.data_folder import DataFolder
from hubbub.errors import CommandFailed
from hubbub.messages import messages_document
from hubbub.migrate import bring_up_to_date
from hubbub.progress import saying
from hubbub.shipped import shipped
from hubbub_client.jetstream.publisher import MAX_WAITING_BYTES, Publisher, start_publisher
from hubbub_client.nats.client import Bus, connect_bus
from posts_service.settings import PostsSettings
from shared.jetstream.streams import bootstrap, keep_streams
from shared.runtime.settings import ServiceSettings, read_settings
from shared.runtime.supervision import Loop, Supervisor
from shared.sql.outbox_metrics import OutboxMetrics
from shared.tokens.configured import open_verifier
from shared.tokens.jwk import BadSigningKey, read_signing_key
from shared.web.application import Application
from shared.web.http import MAX_BODY_BYTES
from shared.web.operations import add_operations
from shared.web.page_headers import PAGE_HEADERS

WEB = shipped("web")
"""The demo app: a page and its files."""

OWN_BUS: Mapping[str, Any] = {"nats_creds": None, "nats_ca": None}
"""Of `up`: what the environment says of another is not for it."""

# The whole of `up` stops within 5 s; on its own a gateway may take longer.
DRAIN_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Settings:
    """Each service's settings, with what the data folder decides."""

    auth: AuthSettings
    posts: PostsSettings
    gateway: GatewaySettings

    @classmethod
    def on(cls, folder: DataFolder, *, nats_urls: Mapping[str, str]) -> "Settings":
        """All else comes from the environment, where it may set the key of `/api` too.

        Args:
            nats_urls: Each service's URL of the bus, with its password.

        Raises:
            WrongSettings: what the environment says.
            CommandFailed: what the folder holds.
        """
        gateway = read_settings(GatewaySettings, nats_url=nats_urls["gateway"], **OWN_BUS)
        kept: dict[str, Any] = {}
        if gateway.api_key is None:
            kept["api_key"] = folder.api_key_file.read_text(
                encoding="utf-8", errors="replace"
            ).strip()
        if "drain_seconds" not in gateway.model_fields_set:
            kept["drain_seconds"] = DRAIN_SECONDS
        awaits = gateway.await_auth_service is not False  # ours runs in this process
        return cls(
            auth=read_settings(
                AuthSettings,
                nats_url=nats_urls["auth"],
                **OWN_BUS,
                database_url=folder.database_url("auth"),
                signing_key=_signing_key(folder),
            ),
            posts=read_settings(
                PostsSettings,
                nats_url=nats_urls["posts"],
                **OWN_BUS,
                database_url=folder.database_url("posts"),
                await_auth_service=awaits,
            ),
            gateway=read_settings(
                GatewaySettings,
                nats_url=nats_urls["gateway"],
                await_auth_service=awaits,
                **OWN_BUS,
                **kept,
            ),
        )


def _signing_key(folder: DataFolder) -> str:
    pem = folder.signing_key.read_text(encoding="utf-8", errors="replace")
    try:
        read_signing_key(pem)
    except BadSigningKey as error:
        raise CommandFailed(f"{folder.signing_key}: {error}") from None
    return pem


@dataclass(frozen=True, slots=True)
class System:
    """The running services, behind one application."""

    app: FastAPI
    auth: AuthParts
    ready: Callable[[], list[str]]
    """Why the system can't serve; empty if it can."""
    drain: Callable[[], Awaitable[None]]
    server_options: Mapping[str, Any]
    """Options of the server that the gateway needs for its WebSockets."""


@asynccontextmanager
async def kept_streams(
    nats_url: str, settings: Settings, *, store_bytes: int, supervisor: Supervisor
) -> AsyncGenerator[None]:
    """Create or update the streams as the user `bootstrap`, and create them again when lost."""
    streams = stream_settings(settings.gateway, store_bytes=store_bytes)
    async with connect_bus(nats_url, name="bootstrap") as bus:
        with saying("creating or checking the streams"):
            await bootstrap(bus, streams)
        keeping = Loop("streams", lambda: keep_streams(bus, streams), is_vital=False)
        async with supervisor.running(keeping):
            yield


async def prepare_databases(settings: Settings) -> None:
    """Bring both databases to the newest revision."""
    urls = {"auth": settings.auth.database_url, "posts": settings.posts.database_url}
    for service, url in urls.items():
        with saying(f"migrating the database of {service}"):
            await bring_up_to_date(service, url)


@asynccontextmanager
async def _bus_of(
    settings: ServiceSettings, name: str, *, max_waiting_bytes: int = MAX_WAITING_BYTES
) -> AsyncGenerator[tuple[Bus, Publisher]]:
    """A service's own connection, with the same permissions as in a process of its own."""
    async with (
        connect_bus(settings.nats_url, name=name) as bus,
        start_publisher(bus, max_waiting_bytes=max_waiting_bytes) as publisher,
    ):
        yield bus, publisher


@asynccontextmanager
async def running_system(
    settings: Settings, *, registry: CollectorRegistry, supervisor: Supervisor
) -> AsyncGenerator[System]:
    """Auth, posts and the gateway, with their background loops."""
    outbox_metrics = OutboxMetrics(registry)
    max_waiting_bytes = settings.gateway.max_waiting_publish_bytes
    async with (
        _bus_of(settings.auth, "auth") as (auths_bus, auths_publisher),
        _bus_of(settings.posts, "posts") as (posts_bus, posts_publisher),
        _bus_of(settings.gateway, "gateway", max_waiting_bytes=max_waiting_bytes) as (
            gateways_bus,
            gateways_publisher,
        ),
        auth_service.app.serving(
            settings.auth,
            bus=auths_bus,
            publisher=auths_publisher,
            outbox_metrics=outbox_metrics,
            supervisor=supervisor,
        ) as auth,
        open_verifier(settings.gateway, own_keys=auth.keys) as verifier,
        posts_service.app.serving(
            settings.posts,
            bus=posts_bus,
            publisher=posts_publisher,
            verifier=verifier,
            outbox_metrics=outbox_metrics,
            supervisor=supervisor,
            complete_at=auth.complete_at,
        ) as posts,
        gateway.app.serving(
            settings.gateway,
            bus=gateways_bus,
            publisher=gateways_publisher,
            verifier=verifier,
            registry=registry,
            supervisor=supervisor,
            complete_at=auth.complete_at,
        ) as gateway_parts,
    ):
        parts = (auth, posts, gateway_parts)

        def ready() -> list[str]:
            return list(dict.fromkeys(reason for part in parts for reason in part.ready()))

        app = Application(
            "Hubbub",
            max_body_bytes=max(
                auth_service.app.MAX_BODY_BYTES, posts_service.app.MAX_BODY_BYTES, MAX_BODY_BYTES
            ),
            origins=gateway_parts.origins,
            messages=messages_document,
        )
        for part in parts:
            part.add_routes(app)
        add_operations(app, registry=registry, ready=ready)
        _add_page(app)
        yield System(app, auth, ready, gateway_parts.drain, gateway_parts.server_options)


class _PageFiles(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(PAGE_HEADERS)
        return response


def _add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and the rest under ``/web``, all from the application's origin."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    app.mount("/web", _PageFiles(directory=WEB), name="web")
