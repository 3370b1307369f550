"""Checking the environment's settings; problems name the variables."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from auth_service.settings import AuthSettings
from gateway.settings import GatewaySettings
from hubbub.environment import inherited_environment
from hubbub.failures import problems_in, unreadable
from posts_service.settings import PostsSettings
from shared.runtime.settings import NOBODY_TRUSTED, ServiceSettings, environment_names

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "auth": AuthSettings,
    "posts": PostsSettings,
    "gateway": GatewaySettings,
}


def problems_of(service: str) -> list[str]:
    """Why the service can't start, and variables that it will not read."""
    settings = SETTINGS[service]
    problems = _unread(service)
    try:
        problems += _about_trust(service, settings())
    except ValidationError as error:
        problems += problems_in(error)
    except SettingsError as error:
        problems.append(unreadable(error))
    return problems


def warnings_of(service: str) -> list[str]:
    """What may be a mistake in settings of which `problems_of` finds nothing wrong."""
    # The auth service verifies only its own tokens.
    return [] if service == "auth" else SETTINGS[service]().warnings


def _about_trust(service: str, settings: ServiceSettings) -> list[str]:
    is_lost = service != "auth" and not settings.trusts_somebody
    return [f"{NOBODY_TRUSTED}: no token could be checked"] if is_lost else []


def _unread(service: str) -> list[str]:
    """Variables that are probably misspelt: no service reads them."""
    known = {name for settings in SETTINGS.values() for name in environment_names(settings)}
    known |= {f"{name}_FILE" for name in known}
    others = tuple(f"HUBBUB_{each.upper()}_" for each in SETTINGS if each != service)
    return [
        f"{name}: no such setting"
        for name in sorted(inherited_environment())
        if name.startswith("HUBBUB_") and not name.startswith(others) and name not in known
    ]
