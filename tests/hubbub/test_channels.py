"""What `hubbub publish` stores is what `/api` would store."""

from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from hubbub.channels import channels_of, known_channels, why_not_store
from hubbub.data_folder import DataFolder, Running
from hubbub_client.contracts.ids import ChannelName

pytestmark = pytest.mark.usefixtures("bare_process")

NAMESPACES = (
    '{"chat": {}, "typing": {"ephemeral": true},'
    ' "score": {"publication_data_format": "json_object", "history_ttl": "5m"}}'
)
NO_CHANNEL = "there is no such channel"


def test_the_environment_says_which_channels_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = known_channels(None, of_folder=False)
    monkeypatch.setenv("HUBBUB_GATEWAY_NAMESPACES", NAMESPACES)
    channels = known_channels(None, of_folder=False)

    assert (why_not_store(before, ChannelName("score:a"), {}) or "").startswith(NO_CHANNEL)
    assert (why_not_store(channels, ChannelName("nowhere"), {}) or "").startswith(NO_CHANNEL)
    assert why_not_store(channels, ChannelName("score:a"), {}) is None
    assert "no such data" in (why_not_store(channels, ChannelName("score:a"), 1) or "")
    assert "is not stored" in (why_not_store(channels, ChannelName("typing:a"), {}) or "")
    assert why_not_store(channels, ChannelName("#7"), {}) is None


def test_a_running_system_says_it_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUBBUB_GATEWAY_NAMESPACES", NAMESPACES)
    running = Running(
        pid=1,
        url="http://x",
        nats_url="nats://x",
        channels=channels_of(GatewaySettings()),
    )
    monkeypatch.delenv("HUBBUB_GATEWAY_NAMESPACES")

    with DataFolder(tmp_path).announced(running, bus_urls={}):
        channels = known_channels(tmp_path, of_folder=True)

    assert why_not_store(channels, ChannelName("score:a"), {}) is None
    assert why_not_store(channels, ChannelName("post:a"), {}) is not None
