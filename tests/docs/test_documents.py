"""What the documents claim about the code is so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from auth_service.settings import AuthSettings
from gateway import errors
from gateway.protocols.chat.close_codes import CLOSE_CODES, CloseCode
from gateway.protocols.chat.codec import CODE_OF_FIELD, too_fast
from gateway.protocols.chat.frames import ERROR_CODES, Ping
from gateway.settings import GatewaySettings
from gateway.streams.publishing import IdReused, PublicationRefused
from hubbub.messages import messages_document
from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from posts_service.settings import PostsSettings
from shared.runtime.environment import environment_names
from shared.runtime.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "bench/README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "clients/python/README.md",
]
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_to_a_heading_that_it_has(document: Path) -> None:
    for target, heading in LINK.findall(document.read_text()):
        file = document.parent / target if target else document
        assert file.exists(), target
        assert not heading or heading in _anchors(file), f"{target}#{heading}"


def _anchors(document: Path) -> list[str]:
    """Of the headings, as GitHub makes them: in lower case, a hyphen for each space, no signs."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]


@pytest.mark.parametrize("settings", [AuthSettings, PostsSettings, GatewaySettings])
def test_every_setting_is_documented(settings: type[ServiceSettings]) -> None:
    text = (ROOT / "docs/operations.md").read_text()
    missing = [name for name in environment_names(settings) if f"`{name}`" not in text]
    assert missing == []


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    known = {
        name
        for settings in (AuthSettings, PostsSettings, GatewaySettings)
        for name in (*environment_names(settings), *settings.renamed)
    }
    text = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"`(HUBBUB_[A-Z_]+[A-Z])`", text))
    assert {name.removesuffix("_FILE") for name in named} <= known


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
    described = json.dumps(messages_document())

    assert [code for code in ERROR_CODES if f'"{code}"' not in described] == []
    assert [close for close in CLOSE_CODES.values() if f'"{close.reason}"' not in described] == []
    for kind in re.findall(r'"type":"([a-z_]+)"', text):
        assert f'"{kind}"' in described
