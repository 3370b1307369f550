"""What operators ask of every process: whether it lives, whether it is ready, and its metrics."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from typing_extensions import TypedDict

from hubbub_client.contracts.errors import Unavailable
from shared.web.openapi import problems


class NotReady(Unavailable):
    """Requests can't be answered as they should be, now."""

    code = "not_ready"
    retry_after_seconds = 1


class Health(TypedDict):
    status: str


def operations_router(
    *,
    registry: CollectorRegistry,
    ready: Callable[[], list[str]],
    metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> APIRouter:
    """``/livez``, ``/readyz`` and ``/metrics``.

    Args:
        ready: The reasons why the process can't serve; empty if it can.
        metrics: Makes the text in place of the registry.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/livez")
    async def livez() -> Health:
        return {"status": "alive"}

    @router.get("/readyz", responses=problems(NotReady))
    async def readyz() -> Health:
        reasons = ready()
        if reasons:
            raise NotReady("; ".join(reasons))
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        text = generate_latest(registry) if metrics is None else await metrics()
        return Response(text, media_type="text/plain; version=0.0.4")

    return router
