"""What docs/channels.md says of options and permissions is so."""

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gateway.channels.namespaces import Namespaces
from gateway.channels.options import DEFAULT_NAMESPACES, Namespace
from gateway.errors import Refusal
from gateway.settings import GatewaySettings
from hubbub_client import Hubbub
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import ANONYMOUS, UserId
from hubbub_client.nats.client import Bus
from hubbub_client.tokens import connection_token, subscription_token
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway, a_gateway
from tests.gateway.protocols.centrifuge.talking import talking

TEXT = (Path(__file__).resolve().parents[2] / "docs/channels.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
API_KEY = "the key of the server API"
PERMISSION_DENIED = 103


def namespaces_of(name: str) -> Mapping[str, Namespace]:
    """The example that has such a namespace, as a gateway reads it."""
    [example] = [each for each in EXAMPLES if name in json.loads(each)]
    return GatewaySettings(namespaces=json.loads(example)).namespaces


def settings_of(name: str) -> dict[str, Any]:
    return {"api_key": SecretStr(API_KEY), "namespaces": namespaces_of(name)}


def client_of(gateway: RunningGateway) -> Hubbub:
    return Hubbub(f"http://127.0.0.1:{gateway.port}", API_KEY)


def test_the_table_of_options_lists_all_of_them_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", TEXT, re.MULTILINE)
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
    assert namespaces_of("chat") == DEFAULT_NAMESPACES


def test_the_example_of_direct_messages_is_for_two_users_alone() -> None:
    namespaces = Namespaces(namespaces_of("dialog"))
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


async def test_members_of_a_team_are_let_in_by_each_of_the_ways_and_nobody_else(
    nats_url: str, bus: Bus
) -> None:
    ann, bob, cid = (secrets.token_hex(8) for _ in range(3))
    team = f"team:{secrets.token_hex(4)}"
    for_the_channel = subscription_token(ann, team, secret=SECRET)
    in_the_connection = connection_token(bob, secret=SECRET, channels=[team])
    async with (
        a_gateway(nats_url, settings=settings_of("team"), hmac_secret=SECRET) as gateway,
        client_of(gateway) as hubbub,
        talking(gateway, connection_token(ann, secret=SECRET)) as by_token,
        talking(gateway, in_the_connection) as by_connection,
        talking(gateway, connection_token(cid, secret=SECRET)) as by_service,
    ):
        refused = await by_token.ask("subscribe", channel=team)
        subscribed = await by_token.ask("subscribe", channel=team, token=for_the_channel)
        await hubbub.subscribe(cid, team)
        published = await by_service.ask("publish", channel=team, data={"said": "hello"})
        heard = [await each.publication(team) for each in (by_token, by_connection)]
        await hubbub.unsubscribe(ann, team)
        refused_later = await by_token.ask("publish", channel=team, data={})

    assert (refused["error"]["code"], refused_later["error"]["code"]) == (PERMISSION_DENIED,) * 2
    assert "error" not in subscribed
    assert "error" not in published
    assert [each["data"] for each in heard] == [{"said": "hello"}] * 2


async def test_who_looks_at_a_score_sees_the_newest_state_at_once(nats_url: str, bus: Bus) -> None:
    score = f"score:{secrets.token_hex(4)}"
    token = connection_token(secrets.token_hex(8), secret=SECRET)
    async with (
        a_gateway(nats_url, settings=settings_of("score"), hmac_secret=SECRET) as gateway,
        client_of(gateway) as hubbub,
    ):
        for goals in (1, 2):
            await hubbub.publish(score, {"goals": goals})
        async with talking(gateway, token) as client:
            subscribed = await client.ask("subscribe", channel=score)

    assert [each["data"] for each in subscribed["publications"]] == [{"goals": 2}]
