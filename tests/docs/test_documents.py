"""What the documents claim about the code is so."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auth_service.settings import AuthSettings
from gateway import errors
from gateway.channels.namespaces import Namespaces
from gateway.channels.options import DEFAULT_NAMESPACES, Namespace
from gateway.errors import Refusal
from gateway.protocols.chat.asyncapi import chat_document
from gateway.protocols.chat.close_codes import CLOSE_CODES, CloseCode
from gateway.protocols.chat.codec import CODE_OF_FIELD, too_fast
from gateway.protocols.chat.frames import ERROR_CODES, Ping
from gateway.settings import GatewaySettings
from gateway.streams.publishing import IdReused, PublicationRefused
from posts_service.settings import PostsSettings
from shared.contracts.channels import parse_channel, room_channel
from shared.contracts.ids import ANONYMOUS, UserId
from shared.contracts.publications import Publication
from shared.jetstream.stream_reader import StreamReader
from shared.jetstream.subjects import publication_subject
from shared.nats.client import Bus
from shared.runtime.settings import ServiceSettings, environment_names

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "bench/README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "clients/python/README.md",
]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("settings", [AuthSettings, PostsSettings, GatewaySettings])
def test_every_setting_is_documented(settings: type[ServiceSettings]) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    missing = [name for name in environment_names(settings) if f"`{name}`" not in text]
    assert missing == []


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    known = {
        name
        for settings in (AuthSettings, PostsSettings, GatewaySettings)
        for name in environment_names(settings)
    }
    text = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"`(HUBBUB_[A-Z_]+[A-Z])`", text))
    assert {name.removesuffix("_FILE") for name in named} <= known


def test_the_table_of_options_lists_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", _about_channels(), re.MULTILINE)
    shown = dict(rows)
    assert len(rows) == len(shown)
    assert shown.keys() == Namespace.model_fields.keys()
    defaults = Namespace().model_dump(mode="json")
    for option, default in shown.items():
        if default.startswith("as "):
            short = default.removeprefix("as ").strip("`")
            assert defaults[option] == (defaults[short] in (True, "users"))
        else:
            assert defaults[option] == (json.loads(default[1:-1]) if "`" in default else None)


def test_the_default_namespaces_are_those_that_are_shown() -> None:
    assert _namespaces_shown()[0] == DEFAULT_NAMESPACES


def test_the_example_of_direct_messages_is_for_two_users_alone() -> None:
    namespaces = Namespaces(_namespaces_shown()[1])
    dialog = parse_channel("dialog:#7,42")
    for user in (UserId("7"), UserId("42")):
        assert namespaces.why_not_subscribe(dialog, user) is None
        assert namespaces.why_not_publish(dialog, user, is_subscribed=True) is None
        assert namespaces.why_not_read_history(dialog, user, is_subscribed=True) is None
        assert namespaces.may_recover(dialog, user)
    for user in (UserId("4"), UserId("742"), UserId("7,42"), ANONYMOUS):
        assert namespaces.why_not_subscribe(dialog, user) is Refusal.PERMISSION_DENIED
        refusal = namespaces.why_not_publish(dialog, user, is_subscribed=False)
        assert refusal is Refusal.PERMISSION_DENIED
    unlisted = parse_channel("dialog:x")
    assert namespaces.why_not_subscribe(unlisted, UserId("7")) is Refusal.PERMISSION_DENIED


def _about_channels() -> str:
    text = (ROOT / "docs/operations.md").read_text()
    [section] = re.findall(r"^## Channels, and.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    return str(section)


def _namespaces_shown() -> list[Mapping[str, Namespace]]:
    examples = re.findall(r"```json\n(.*?)```", _about_channels(), re.DOTALL)
    return [GatewaySettings(namespaces=json.loads(each)).namespaces for each in examples]


async def test_the_readmes_example_publishes(bus: Bus, nats_url: str) -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)

    await names["tell_the_lobby"](nats_url)

    stored = await StreamReader(bus, "RT").last_of(publication_subject(room_channel("lobby")))
    assert stored is not None
    assert Publication.decode(stored.payload).data == {"text": "hi"}


def test_every_error_and_close_of_the_protocol_is_documented() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    codes = {"bad_json", "unknown_type", "too_long", "unavailable", *CODE_OF_FIELD.values()}
    codes |= {
        IdReused.code,
        PublicationRefused.code,
        errors.MayNotPublish.code,
        errors.OtherUser.code,
    }
    codes.add(too_fast(Ping()).code)

    assert codes == set(ERROR_CODES)
    assert [close for close in CLOSE_CODES.values() if f"| {close.code}" not in text] == []
    refusals = [close for close in CLOSE_CODES.values() if close.code == CloseCode.POLICY_VIOLATION]
    assert [close for close in refusals if f'| 1008 "{close.reason}" |' not in text] == []
    assert set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)) >= codes


def test_the_asyncapi_document_lists_every_frame_error_and_close_of_the_protocol() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    described = json.dumps(chat_document(version="1"))

    assert [code for code in ERROR_CODES if f'"{code}"' not in described] == []
    assert [close for close in CLOSE_CODES.values() if f'"{close.reason}"' not in described] == []
    for kind in re.findall(r'"type":"([a-z_]+)"', text):
        assert f'"{kind}"' in described
