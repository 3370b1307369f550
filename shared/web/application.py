"""The FastAPI application of a process: what all of them have, and their documents."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from shared.web.docs_page import docs_router
from shared.web.http import MAX_BODY_BYTES, install_edge
from shared.web.openapi import openapi_document
from shared.web.origins import Origins


class Application(FastAPI):
    """With problem documents, request ids, limits and CORS, and described at `/openapi.json`."""

    def __init__(
        self,
        title: str,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        origins: Origins | None = None,
        messages: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """
        Args:
            messages: Makes the AsyncAPI document, if there is one; it is at `/asyncapi`.
        """
        super().__init__(
            title=title,
            docs_url=None,  # its page loads scripts of other hosts
            redoc_url=None,
            generate_unique_id_function=_operation_id,
        )
        install_edge(self, max_body_bytes=max_body_bytes, origins=origins)
        self.include_router(docs_router())
        if messages is not None:
            self.include_router(_messages_router(messages))

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi_document(self.title, self.routes)
        return self.openapi_schema


def _messages_router(messages: Callable[[], Mapping[str, Any]]) -> APIRouter:
    router = APIRouter(tags=["operations"])
    document = cache(messages)  # made for the first who asks, as that of the routes is

    @router.get("/asyncapi")
    async def asyncapi() -> dict[str, Any]:
        return dict(document())

    return router


def _operation_id(route: APIRoute) -> str:
    return route.name
