"""`hubbub check-token`: whether services with this environment would take a token, or why not."""

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path

from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.errors import CommandFailed
from hubbub_client.jetstream.clock import our_clock
from shared.runtime.settings import NOBODY_TRUSTED, ServiceSettings, read_settings
from shared.runtime.telemetry import configure_logging
from shared.tokens.claims import NEVER, Claims, SubscriptionClaims
from shared.tokens.configured import open_verifier
from shared.tokens.errors import InvalidToken, KeysUnknown
from shared.tokens.jwk import BadSigningKey, read_signing_key, trusted_key
from shared.tokens.keys import FixedKeys

MAX_BYTES = 64 * 1024


def check_token(file: Path | None, *, data: Path | None) -> str:
    """Say that the token of a file, or of standard input, would be taken.

    Raises:
        CommandFailed: it would not; no part of it is repeated.
    """
    configure_logging("ERROR", json=False)
    token = _read(file)
    settings = read_settings(ServiceSettings)
    own_keys = None
    if data is not None or not settings.trusts_somebody:
        own_keys = _keys_of(DataFolder(data or DEFAULT_PATH), is_named=data is not None)
    claims = asyncio.run(_judged(token, settings, own_keys))
    if isinstance(claims, KeysUnknown):
        raise CommandFailed(f"it can't be judged: {claims}")
    if isinstance(claims, InvalidToken):
        raise CommandFailed(f"it would be refused: {claims}")
    return f"it would be taken: {_whose(claims)}, {_how_long(claims)}"


def _read(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        print("The token, and then Ctrl-D:", file=sys.stderr)
    try:
        with nullcontext(sys.stdin.buffer) if file is None else file.open("rb") as source:
            text = source.read(MAX_BYTES)
    except OSError as error:  # its name may be a token
        raise CommandFailed(
            f"the file can't be read: {error.strerror}; a token is never given as an argument,"
            " where others can see it: pipe it in"
        ) from None
    token = text.decode("ascii", errors="replace").strip()
    if not token:
        raise CommandFailed("there is no token")
    return token


def _keys_of(folder: DataFolder, *, is_named: bool) -> FixedKeys:
    try:
        pem = folder.signing_key.read_text(encoding="utf-8", errors="replace")
        return FixedKeys([trusted_key(read_signing_key(pem).public_key())])
    except FileNotFoundError:
        if is_named:
            raise CommandFailed(f"there is no signing key in {folder.path}") from None
        raise CommandFailed(f"{NOBODY_TRUSTED}, and nothing ever ran on {folder.path}") from None
    except BadSigningKey as error:
        raise CommandFailed(f"{folder.signing_key}: {error}") from None


async def _judged(
    token: str, settings: ServiceSettings, own_keys: FixedKeys | None
) -> Claims | SubscriptionClaims | InvalidToken | KeysUnknown:
    async with open_verifier(settings, own_keys=own_keys) as verifier:
        try:
            return await verifier.judge(token)
        except (InvalidToken, KeysUnknown) as refusal:
            return refusal


def _whose(claims: Claims | SubscriptionClaims) -> str:
    who = (
        f"user {claims.user_id}" if claims.user_id else "an anonymous user, where they may come in"
    )
    if isinstance(claims, SubscriptionClaims):
        where = "" if claims.client_id is None else " of one connection"
        return f"{who}, for a subscription{where} to {claims.channel}"
    return who


def _how_long(claims: Claims | SubscriptionClaims) -> str:
    if claims.token_expires_at == NEVER:
        return "without end"
    return f"for {claims.token_expires_at - our_clock():.0f} s more"
