"""The FastAPI application of a process: what all of them have, and their documents."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Request

from shared.web.docs_page import docs_router
from shared.web.http import MAX_BODY_BYTES, install_edge
from shared.web.openapi import openapi_document
from shared.web.origins import Origins
from shared.web.router import Router


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
        )
        install_edge(self, max_body_bytes=max_body_bytes, origins=origins)
        docs_router().add_to(self)
        if messages is not None:
            self.state.messages = cache(messages)  # made for the first who asks, as `openapi` is
            _messages.add_to(self)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi_document(self.title, self.routes)
        return self.openapi_schema


_messages = Router(tags=["operations"])


@_messages.get("/asyncapi")
async def asyncapi(request: Request) -> dict[str, Any]:
    return dict(request.app.state.messages())
