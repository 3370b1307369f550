"""Asking what answers by HTTP whether it is ready, and the issuer for its keys."""

import asyncio

import httpx2

from hubbub.doctor.findings import Finding, bad, good
from hubbub_client.urls import without_passwords
from shared.runtime.settings import ServiceSettings
from shared.tokens.keys import connected_keys

ASK_SECONDS = 3.0
_SAID = 300
"""Characters of an answer that are shown at most."""
_MAX_PORT = 65_535


async def look_at_services(
    origins: tuple[str, ...], *, ask_seconds: float = ASK_SECONDS
) -> list[Finding]:
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=ask_seconds) as client,
        asyncio.TaskGroup() as group,
    ):
        asked = [
            group.create_task(_ask(client, origin.rstrip("/"), ask_seconds)) for origin in origins
        ]
    return [each.result() for each in asked]


async def _ask(client: httpx2.AsyncClient, origin: str, seconds: float) -> Finding:
    about = f"service {origin}"
    try:
        if (httpx2.URL(origin).port or 0) > _MAX_PORT:  # nothing else looks before it connects
            raise httpx2.InvalidURL("there is no such port")
        async with asyncio.timeout(seconds):  # for all of it, however slowly it comes
            answer = await client.get(f"{origin}/readyz")
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        return bad(about, f"does not answer: {reason}", "start it, or see who has its port")
    if answer.status_code == httpx2.codes.OK:
        return good(about, "is ready")
    return bad(about, f"is not ready: {_detail(answer)}", "see the findings about what it needs")


def _detail(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])[:_SAID]
    except (ValueError, TypeError, LookupError):
        return f"{answer.status_code} {answer.reason_phrase}"


async def look_at_keys(settings: ServiceSettings) -> list[Finding]:
    """Whether the issuer gives keys that tokens can be checked with."""
    if settings.jwks_url is None:
        return []
    proxy = settings.jwks_proxy.get_secret_value() if settings.jwks_proxy else None
    algorithms = settings.key_algorithms
    async with connected_keys(settings.jwks_url, algorithms=algorithms, proxy=proxy) as keys:
        await keys.look_again()
    if keys.trouble is None:
        return [good("keys", f"{without_passwords(settings.jwks_url)} has keys")]
    todo = "see that the issuer runs, and that HUBBUB_JWKS_URL names its keys"
    return [bad("keys", keys.trouble, todo)]
