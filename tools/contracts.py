"""Write the documents of what others may rely on, docs/contracts, and the types of web/ from them.

A document that would break its users is written only under a higher first number of its version.

Usage: uv run --group dev python -m tools.contracts
"""

import json
import sys
from pathlib import Path
from typing import Any

import auth_service.api
import posts_service.api
from gateway.server_api.routes import add_api
from hubbub.messages import messages_document
from shared.tokens.authentication import authenticate
from shared.web.application import Application
from shared.web.operations import add_operations
from tools.contract_changes import unannounced_breaks
from tools.node import TYPESCRIPT, install_packages, run_script

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "contracts"
OPENAPI = FOLDER / "openapi.json"
ASYNCAPI = FOLDER / "asyncapi.json"

TYPES = {
    OPENAPI: ROOT / "web" / "types" / "http.d.ts",
    ASYNCAPI: ROOT / "web" / "types" / "messages.d.ts",
}

_ABSENT: Any = None
"""What only a request would need."""


def http_document() -> dict[str, Any]:
    """The OpenAPI document of all services, as `hubbub up` serves it."""
    app = Application("Hubbub", messages=dict)
    auth_service.api.create_router(
        _ABSENT, _ABSENT, _ABSENT, _ABSENT,
        publisher=_ABSENT, throttle=_ABSENT, refresh_lifetime=_ABSENT, revoke_seconds=_ABSENT,
    ).add_to(app)  # fmt: skip
    posts_service.api.create_router(
        _ABSENT,
        authenticate(_ABSENT, _ABSENT, revocations_known=_ABSENT),
        _ABSENT,
        like_notice_interval=_ABSENT,
    ).add_to(app)
    add_api(app, _ABSENT, api_key=_ABSENT)
    add_operations(app, registry=_ABSENT, ready=_ABSENT)
    return app.openapi()


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def types_of(document: str) -> str:
    """TypeScript types of its schemas. The packages of tools/typescript must be there."""
    return run_script(TYPESCRIPT, "types.js", document)


def why_not(file: Path, document: dict[str, Any]) -> str | None:
    """What breaks users of the document that the file has; nothing if it may be replaced."""
    breaks = unannounced_breaks(json.loads(file.read_text()), document)
    if not breaks:
        return None
    first = int(document["info"]["version"].partition(".")[0]) + 1
    begin = f"{file.relative_to(ROOT)} would break its users, so its version must be {first}.0.0:"
    return "\n  ".join([begin, *breaks])


def main() -> None:
    problem = install_packages(TYPESCRIPT)
    if problem is not None:
        sys.exit(f"npm: {problem}")
    for file, document in ((OPENAPI, http_document()), (ASYNCAPI, messages_document())):
        problem = why_not(file, document)
        if problem is not None:
            sys.exit(problem)
        text = as_text(document)
        file.write_text(text)
        TYPES[file].write_text(types_of(text))


if __name__ == "__main__":
    main()
