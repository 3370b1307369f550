"""What operators ask of every process: whether it lives, whether it is ready, and its metrics."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from typing_extensions import TypedDict

from hubbub_client.contracts.errors import Unavailable
from shared.web.openapi import problems
from shared.web.router import Router


class NotReady(Unavailable):
    """Requests can't be answered as they should be, now."""

    code = "not_ready"
    retry_after_seconds = 1


class Health(TypedDict):
    status: str


@dataclass(frozen=True, slots=True)
class _Operations:
    registry: CollectorRegistry
    ready: Callable[[], list[str]]
    metrics: Callable[[], Awaitable[bytes]] | None


def add_operations(
    app: FastAPI,
    *,
    registry: CollectorRegistry,
    ready: Callable[[], list[str]],
    metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> None:
    """Let the application answer ``/livez``, ``/readyz`` and ``/metrics``.

    Args:
        ready: The reasons why the process can't serve; empty if it can.
        metrics: Makes the text in place of the registry.
    """
    app.state.operations = _Operations(registry, ready, metrics)
    _router.add_to(app)


_router = Router(tags=["operations"])


@_router.get("/livez")
async def livez() -> Health:
    return {"status": "alive"}


@_router.get("/readyz", responses=problems(NotReady))
async def readyz(request: Request) -> Health:
    reasons = _of(request).ready()
    if reasons:
        raise NotReady("; ".join(reasons))
    return {"status": "ready"}


@_router.get("/metrics", response_class=PlainTextResponse)
async def show_metrics(request: Request) -> Response:
    asked = _of(request)
    text = generate_latest(asked.registry) if asked.metrics is None else await asked.metrics()
    return Response(text, media_type="text/plain; version=0.0.4")


def _of(request: Request) -> _Operations:
    operations: _Operations = request.app.state.operations
    return operations
