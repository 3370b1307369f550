"""Checking the environment's settings, as the services read them."""

from collections.abc import Mapping

from auth_service.settings import AuthSettings
from gateway.settings import GatewaySettings
from posts_service.settings import PostsSettings
from shared.runtime.environment import WrongSettings
from shared.runtime.settings import ServiceSettings, read_settings

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "auth": AuthSettings,
    "posts": PostsSettings,
    "gateway": GatewaySettings,
}


def problems_of(service: str) -> list[str]:
    """Why the service does not start."""
    try:
        read_settings(SETTINGS[service], alone=True)
    except WrongSettings as wrong:
        return list(wrong.problems)
    return []


def warnings_of(service: str) -> list[str]:
    """What may be a mistake in settings of which `problems_of` finds nothing wrong."""
    return read_settings(SETTINGS[service]).warnings
