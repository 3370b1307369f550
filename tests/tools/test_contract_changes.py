"""Which changes of a document break its users, and that those are not published unannounced."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.skipping import skip
from tools.contract_changes import unannounced_breaks
from tools.contracts import ASYNCAPI, FOLDER, OPENAPI

Document = dict[str, Any]
Change = Callable[[Document], Any]

MAX_OLD = 50
"""How many earlier versions of a file are compared."""


def changed(file: Path, change: Change) -> tuple[Document, Document]:
    old = json.loads(file.read_text())
    new = deepcopy(old)
    change(new)
    return old, new


def schema(name: str) -> Callable[[Document], Document]:
    return lambda document: document["components"]["schemas"][name]


def operation(path: str, method: str) -> Callable[[Document], Document]:
    return lambda document: document["paths"][path][method]


NEW_POST, POST, PAGE = schema("NewPost"), schema("Post"), schema("Page_Post_")
LIST, EDIT = operation("/posts", "get"), operation("/posts/{post_id}", "patch")
PUBLISH = operation("/api/publish", "post")

HTTP_BREAKS: list[tuple[Change, str]] = [
    (lambda new: new["paths"].pop("/posts"), "GET /posts is gone"),
    (lambda new: new["paths"]["/posts"].pop("post"), "POST /posts is gone"),
    (lambda new: LIST(new)["responses"].pop("429"), "GET /posts, 429 is gone"),
    (lambda new: LIST(new)["parameters"].pop(0), "GET /posts, parameter cursor is gone"),
    (
        lambda new: LIST(new)["parameters"].append(
            {"in": "query", "name": "sort", "required": True, "schema": {"type": "string"}}
        ),
        "GET /posts, parameter sort is required now",
    ),
    (
        lambda new: LIST(new)["parameters"][1]["schema"].update(maximum=50),
        "GET /posts, parameter limit: maximum is 50 now",
    ),
    (
        lambda new: operation("/livez", "get")(new).update(security=[{"bearer": []}]),
        "GET /livez needs a key or a token now",
    ),
    (
        lambda new: operation("/auth/me", "get")(new).update(security=[{"apiKey": []}]),
        "GET /auth/me takes no bearer now",
    ),
    (
        lambda new: PUBLISH(new)["security"].pop(),
        "POST /api/publish takes no apiKeyAuthorization now",
    ),
    (
        lambda new: new["components"]["securitySchemes"]["apiKey"].update(name="X-Key"),
        "apiKey is gone, or elsewhere",
    ),
    (
        lambda new: LIST(new)["responses"]["429"]["headers"].pop("Retry-After"),
        "GET /posts, 429, Retry-After is gone",
    ),
    (
        lambda new: NEW_POST(new).update(additionalProperties=False),
        "NewPost: other members are refused now",
    ),
    (
        lambda new: NEW_POST(new)["required"].append("tag"),
        "NewPost: tag is required now",
    ),
    (lambda new: NEW_POST(new)["properties"].pop("body"), "NewPost: body is gone"),
    (
        lambda new: NEW_POST(new)["properties"]["title"].update(maxLength=100),
        "NewPost: title: maxLength is 100 now",
    ),
    (
        lambda new: NEW_POST(new)["properties"]["title"].update(type="integer"),
        "NewPost: title: string is integer now",
    ),
    (lambda new: POST(new)["properties"].pop("liked"), "Post: liked is gone"),
    (
        lambda new: POST(new)["required"].remove("liked"),
        "Post: liked may be missing now",
    ),
    (
        lambda new: POST(new)["properties"]["id"].update(type="string"),
        "Post: id: integer is string now",
    ),
    (
        lambda new: POST(new)["properties"]["author_id"].update(type=["integer", "null"]),
        "Post: author_id: null is new",
    ),
    (
        lambda new: PAGE(new)["properties"]["items"].pop("items"),
        "Page_Post_: items[]: object is anything now",
    ),
    (
        lambda new: EDIT(new)["responses"]["403"]["content"]["application/problem+json"]["schema"][
            "allOf"
        ][1]["properties"]["code"].update(enum=["forbidden"]),
        "PATCH /posts/{post_id}, 403: code: the value 'not_the_author' is gone",
    ),
    (
        lambda new: schema("PublishRequest")(new)["properties"]["channel"].update(type="array"),
        "PublishRequest: channel: string is array now",
    ),
    (
        lambda new: NEW_POST(new).update(additionalProperties={"type": "string"}),
        "NewPost{}: anything is string now",
    ),
]
HTTP_COMPATIBLE: list[Change] = [
    lambda _new: None,
    lambda new: new["paths"].update({"/more": {"get": {"responses": {}}}}),
    lambda new: LIST(new)["responses"].update({"418": {"description": "new"}}),
    lambda new: NEW_POST(new)["properties"].update(tag={"type": "string"}),
    lambda new: NEW_POST(new)["properties"]["title"].update(maxLength=300),
    lambda new: POST(new)["properties"].update(tags={"type": "array"}),
    lambda new: schema("PostEdit")(new)["properties"]["title"].update(type=["string", "null"]),
]
MESSAGES_BREAKS: list[tuple[Change, str]] = [
    (lambda new: new["channels"].pop("feed"), "chat:feed (feed) is gone, or elsewhere"),
    (
        lambda new: new["channels"]["chat"].update(address="/ws/talk"),
        "/ws/chat (chat) is gone, or elsewhere",
    ),
    (
        lambda new: new["servers"]["centrifuge"].update(pathname="/connection/other"),
        "the server centrifuge is gone, or elsewhere",
    ),
    (
        lambda new: new["channels"]["chat"]["servers"][0].update({"$ref": "#/servers/bus"}),
        "/ws/chat (chat) is gone, or elsewhere",
    ),
    (
        lambda new: new["channels"]["chat"]["bindings"]["ws"]["query"].update(required=["room"]),
        "chat, query: room is required now",
    ),
    (
        lambda new: new["channels"]["chat"]["bindings"]["ws"]["query"]["properties"].pop("since"),
        "chat, query: since is gone",
    ),
    (lambda new: new["channels"]["chat"]["x-closes"].pop(0), "chat, close 1003 is gone"),
    (
        lambda new: new["operations"]["chat.send"].update(action="receive"),
        "chat.send goes the other way now",
    ),
    (lambda new: new["operations"].pop("chat.receive"), "chat.receive, Ping is gone"),
    (
        lambda new: new["operations"]["chat.send"]["messages"].pop(0),
        "chat.send, Welcome is gone",
    ),
    (
        lambda new: schema("Welcome")(new)["properties"].pop("epoch"),
        "Welcome: epoch is gone",
    ),
    (
        lambda new: schema("Welcome")(new)["properties"]["type"].update(const="hello"),
        "Welcome: type: the value 'welcome' is gone",
    ),
    (
        lambda new: schema("Ping")(new)["required"].append("id"),
        "Ping: id is required now",
    ),
    (
        lambda new: schema("Envelope")(new)["required"].append("recipients"),
        "Envelope: recipients is required now",
    ),
]


@pytest.mark.parametrize(("change", "line"), HTTP_BREAKS, ids=[line for _, line in HTTP_BREAKS])
def test_a_change_of_the_http_interface_that_breaks_users_is_named(
    change: Change, line: str
) -> None:
    assert line in unannounced_breaks(*changed(OPENAPI, change))


@pytest.mark.parametrize("change", HTTP_COMPATIBLE)
def test_more_of_the_http_interface_breaks_nobody(change: Change) -> None:
    assert unannounced_breaks(*changed(OPENAPI, change)) == []


@pytest.mark.parametrize(
    ("change", "line"), MESSAGES_BREAKS, ids=[line for _, line in MESSAGES_BREAKS]
)
def test_a_change_of_the_messages_that_breaks_users_is_named(change: Change, line: str) -> None:
    assert line in unannounced_breaks(*changed(ASYNCAPI, change))


def test_more_messages_and_more_members_break_nobody() -> None:
    def change(new: Document) -> None:
        schema("Welcome")(new)["properties"]["since"] = {"type": "string"}
        schema("Ping")(new)["properties"]["id"] = {"type": "string"}
        new["channels"]["more"] = {"address": "more"}

    assert unannounced_breaks(*changed(ASYNCAPI, change)) == []


def test_under_a_higher_first_number_anything_may_change() -> None:
    def change(new: Document) -> None:
        new["paths"].clear()
        new["info"]["version"] = "2.0.0"

    assert unannounced_breaks(*changed(OPENAPI, change)) == []


@pytest.mark.parametrize("file", [OPENAPI, ASYNCAPI], ids=lambda file: file.name)
def test_who_uses_an_earlier_version_with_the_same_first_number_is_not_broken(file: Path) -> None:
    now = json.loads(file.read_text())

    for commit, old in earlier(file):
        if old["info"]["version"].partition(".")[0] == now["info"]["version"].partition(".")[0]:
            assert unannounced_breaks(old, now) == [], f"since {commit}: raise its version"


def earlier(file: Path) -> list[tuple[str, Document]]:
    """What the file was, by commit; skips where there is no history of it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=True
        ).stdout

    try:
        commits = git("log", f"--max-count={MAX_OLD}", "--format=%h", "--", file.name).split()
    except (OSError, subprocess.CalledProcessError) as error:
        skip(f"there is no history of {file.name}: {error}")
    return [
        (commit, json.loads(git("show", f"{commit}:./{file.name}")))
        for commit in commits
        if git("ls-tree", "--name-only", commit, file.name)  # not where it was removed
    ]
