"""The documents of what others may rely on, in docs/contracts, and what is made of them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.protocols.chat.frames import COMMANDS, NOTIFICATION_PUSHES, PUSHES
from hubbub.messages import messages_document
from posts_service.events import EVENTS
from tests.fixtures.skipping import skip
from tools.contracts import (
    ASYNCAPI,
    OPENAPI,
    ROOT,
    TYPES,
    as_text,
    http_document,
    types_of,
    why_not,
)
from tools.node import NODE, TYPESCRIPT, install_packages, run_script


@pytest.fixture(scope="module")
def packages() -> None:
    """What tools/typescript needs; skips without them, unless nothing may be skipped."""
    problem = install_packages(TYPESCRIPT)
    if problem is not None:
        skip(f"npm installs no packages: {problem}")


def test_the_openapi_document_is_that_of_the_routes() -> None:
    assert OPENAPI.read_text() == as_text(http_document()), "run: just contracts"


def test_the_openapi_document_is_valid() -> None:
    errors = OpenAPIV31SpecValidator(json.loads(OPENAPI.read_text())).iter_errors()

    assert [error.message for error in errors] == []


def test_the_asyncapi_document_is_that_of_the_messages() -> None:
    assert ASYNCAPI.read_text() == as_text(messages_document()), "run: just contracts"


@pytest.mark.usefixtures("packages")
def test_the_asyncapi_document_is_valid() -> None:
    assert run_script(TYPESCRIPT, "validate.js", ASYNCAPI.read_text()) == ""


def test_the_asyncapi_document_names_every_frame_and_every_event() -> None:
    messages = json.loads(ASYNCAPI.read_text())["components"]["messages"]

    frames = {model.__name__ for model in (*COMMANDS, *PUSHES, *NOTIFICATION_PUSHES)}
    events = {f"{event.__name__}{form}" for event in EVENTS for form in ("Data", "Envelope")}
    assert frames | events <= messages.keys()


def test_what_would_break_users_is_refused_in_the_words_that_are_shown() -> None:
    document = json.loads(OPENAPI.read_text())
    del document["components"]["schemas"]["Post"]["properties"]["like_count"]

    assert f"```\n{why_not(OPENAPI, document)}\n```" in (ROOT / "docs/contracts.md").read_text()
    assert why_not(OPENAPI, json.loads(OPENAPI.read_text())) is None


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("document", TYPES, ids=lambda file: file.name)
def test_the_types_are_those_of_the_document(document: Path) -> None:
    assert TYPES[document].read_text() == types_of(document.read_text()), "run: just contracts"


@pytest.mark.usefixtures("packages")
def test_the_page_uses_frames_and_answers_as_the_types_have_them() -> None:
    compiler = TYPESCRIPT / "node_modules/typescript/bin/tsc"
    checked: Any = subprocess.run(
        [NODE, compiler, "--project", TYPESCRIPT / "tsconfig.json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout == ""
    assert checked.returncode == 0
