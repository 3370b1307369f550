"""CORS: a browser lets pages of other origins read what we answer, if we say so.

The Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.web.origins import PREFLIGHT_SECONDS, Origins


class Cors:
    """Middleware: Starlette's, for those origins that may; to others it adds nothing."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins
        self._with_cors = CORSMiddleware(
            app,
            allow_origin_regex="(?s).*",  # whom we let through to it
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("*",),
            allow_credentials=True,
            expose_headers=("X-Request-ID", "Retry-After"),
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._with_cors
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host", "")
            if origin is not None and not self._origins.admit(origin, host, scope["path"]):
                app = self._app
        await app(scope, receive, send)
