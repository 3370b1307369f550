"""The page at `/docs`: Swagger UI over `/openapi.json`, with nothing from another host.

Its files come from the package `fastapi-swagger`, which has them as they are in Swagger UI's own
releases. None of its code is used.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from fastapi.responses import FileResponse, HTMLResponse, Response

from shared.web.page_headers import PAGE_HEADERS
from shared.web.router import Router

_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}

_PAGE = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Hubbub: the HTTP API</title>
    <link rel="icon" href="data:," />
    <link rel="stylesheet" href="docs/swagger-ui.css" />
    <script src="docs/swagger-ui-bundle.js" defer></script>
    <script src="docs/start.js" defer></script>
  </head>
  <body>
    <div id="api"></div>
  </body>
</html>
"""
_START = """\
SwaggerUIBundle({ dom_id: "#api", url: "openapi.json", deepLinking: true, validatorUrl: null });
"""


@cache
def docs_router() -> Router:
    """``/docs`` and its files."""
    router = Router(include_in_schema=False)
    shipped = files("fastapi_swagger") / "resources"

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=PAGE_HEADERS)

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, headers=PAGE_HEADERS, media_type="text/javascript")

    for name, media_type in _FILES.items():
        router.add_api_route(
            f"/docs/{name}", _sending(str(shipped / name), media_type), name=name, methods=["GET"]
        )
    return router


def _sending(path: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(path, headers=PAGE_HEADERS, media_type=media_type)

    return send
