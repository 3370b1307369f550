"""`hubbub token`: an access token for trying things out, which the running services accept."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

import jwt

from auth_service.signing import TokenIssuer
from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.errors import CommandFailed
from hubbub_client.contracts.ids import BadUserId, parse_user_id
from shared.runtime.settings import ServiceSettings, read_settings
from shared.tokens.claims import SessionId, shown_name
from shared.tokens.jwk import BadSigningKey


def make_token(user: str, *, name: str | None, seconds: int, data: Path | None) -> str:
    """Sign with the data folder's key, or with HUBBUB_HMAC_SECRET if it is set and no folder given.

    No session belongs to the token, so it can't be revoked and only expires.
    """
    settings = read_settings(ServiceSettings)
    try:
        user_id = parse_user_id(user)
    except BadUserId as error:
        raise CommandFailed(f"a user's id: {error}") from None
    shown = shown_name(f"User {user_id}") if name is None else name
    if not shown or shown_name(shown) != shown:
        raise CommandFailed("the name can't be shown: it is empty, too long or has odd characters")
    if seconds > settings.max_token_seconds:
        raise CommandFailed(
            f"nobody would believe a token of over {settings.max_token_seconds:g} s"
            " (HUBBUB_MAX_TOKEN_SECONDS)"
        )
    if data is None and settings.hmac_secret is not None:
        now = int(datetime.now(UTC).timestamp())
        claims = {"sub": user_id, "name": shown, "iat": now, "exp": now + seconds}
        return jwt.encode(claims, settings.hmac_secret.get_secret_value(), "HS256")
    key = DataFolder(data or DEFAULT_PATH).signing_key
    try:
        issuer = TokenIssuer(
            key.read_text(encoding="utf-8", errors="replace"),
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            access_token_seconds=seconds,
        )
    except FileNotFoundError:
        raise CommandFailed(f"there is no signing key in {key.parent}: run `hubbub up`") from None
    except BadSigningKey as error:
        raise CommandFailed(f"{key}: {error}") from None
    return issuer.issue(user_id, shown, SessionId(secrets.token_hex(16)))
