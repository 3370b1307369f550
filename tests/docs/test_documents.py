"""What the documents claim about the code is so."""

import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

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
from tests.gateway.chatting import a_gateway

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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_row_belongs_to_a_table(document: Path) -> None:
    for block in re.split(r"\n(?!\|)", re.sub(r"```.*?```", "", document.read_text(), flags=re.S)):
        rows = re.findall(r"^\|.*\|$", block, re.MULTILINE)
        assert not rows or re.fullmatch(r"\|( ?-+ ?\|)+", rows[1]), rows[0]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1, rows[0]


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


def example(function: str) -> Any:
    """The function of one of the README's examples."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [source] = [each for each in examples if f"def {function}(" in each]
    names: dict[str, Any] = {}
    exec(source, names)
    return names[function]


async def test_the_readmes_service_publishes(bus: Bus, nats_url: str) -> None:
    await example("tell_the_lobby")(nats_url)

    stored = await StreamReader(bus, "RT").last_of(publication_subject(room_channel("lobby")))
    assert stored is not None
    assert Publication.decode(stored.payload).data == {"text": "hi"}


async def test_the_readmes_application_tells_who_ordered(bus: Bus, nats_url: str) -> None:
    key, user = "a key of the server API", secrets.randbelow(2**50) + 1
    async with (
        a_gateway(nats_url, settings={"api_key": SecretStr(key)}) as gateway,
        gateway.tab(user, "Ann", "lobby") as tab,
    ):
        await example("tell_who_ordered")(str(user), f"http://127.0.0.1:{gateway.port}", key)
        notification = await tab.until("notification")

    assert (notification["event"], notification["order"]) == ("order_shipped", 17)


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
