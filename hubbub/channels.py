"""Which channels there are, for commands that publish past the gateways."""

from pathlib import Path
from typing import Any

from gateway.channels.namespaces import Namespaces
from gateway.configured import namespaces
from gateway.errors import Refusal
from gateway.settings import GatewaySettings
from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub_client.contracts.ids import ChannelName
from shared.runtime.settings import read_settings

_SETTINGS = {"namespaces", "without_namespace", "personal_channel"}
_SAID = {
    Refusal.UNKNOWN_CHANNEL: (
        "there is no such channel, as far as HUBBUB_GATEWAY_NAMESPACES and"
        " HUBBUB_GATEWAY_WITHOUT_NAMESPACE say: set them here as for the gateways"
    ),
    Refusal.BAD_REQUEST: "the channel's namespace takes no such name, or no such data",
}


def channels_of(settings: GatewaySettings) -> dict[str, Any]:
    """What `known_channels` reads."""
    return settings.model_dump(mode="json", include=_SETTINGS, exclude_unset=True)


def known_channels(data: Path | None, *, of_folder: bool) -> Namespaces:
    """Those of the system on a data folder, or as the environment says.

    Raises:
        WrongSettings: it says it wrongly.
    """
    running = DataFolder(data or DEFAULT_PATH).running() if of_folder else None
    return namespaces(read_settings(GatewaySettings, **(running.channels if running else {})))


def why_not_store(channels: Namespaces, channel: ChannelName, data: Any) -> str | None:
    """Why `/api` would not store it either."""
    refusal = channels.why_not_take(channel, data)
    if refusal is not None:
        return _SAID[refusal]
    if channels.is_ephemeral(channel):
        return "what is published there is not stored: publish it by /api"
    return None
