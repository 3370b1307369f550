"""Write the documents of what others may rely on: docs/contracts/.

Usage: uv run --group dev python -m tools.contracts
"""

import json
from pathlib import Path
from typing import Any

import auth_service.api
import posts_service.api
from gateway.server_api.routes import create_api_router
from shared.tokens.authentication import authenticate
from shared.web.application import Application
from shared.web.operations import operations_router

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "contracts"
OPENAPI = FOLDER / "openapi.json"

_ABSENT: Any = None
"""What only a request would need."""


def http_document() -> dict[str, Any]:
    """The OpenAPI document of all services, as `hubbub up` serves it."""
    app = Application("Hubbub", messages={})
    for router in (
        auth_service.api.create_router(
            _ABSENT, _ABSENT, _ABSENT, _ABSENT,
            publisher=_ABSENT, throttle=_ABSENT, refresh_lifetime=_ABSENT, revoke_seconds=_ABSENT,
        ),
        posts_service.api.create_router(
            _ABSENT,
            authenticate(_ABSENT, _ABSENT, revocations_known=_ABSENT),
            _ABSENT,
            like_notice_interval=_ABSENT,
        ),
        create_api_router(_ABSENT, api_key=_ABSENT),
        operations_router(registry=_ABSENT, ready=_ABSENT),
    ):  # fmt: skip
        app.include_router(router)
    return app.openapi()


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OPENAPI.write_text(as_text(http_document()))
