"""The verifier that a service's settings describe, and the issuers in it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from pydantic import SecretStr

from shared.runtime.issuer_settings import BY_DEFAULT, IssuerSettings, read_public_keys
from shared.runtime.settings import ServiceSettings
from shared.runtime.supervision import Supervisor
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.issuers import Issuer, IssuerRules
from shared.tokens.jwk import trusted_key, trusted_secret
from shared.tokens.keys import FixedKeys, KeySource, UnnamedKeys, jwks_keys

log = structlog.get_logger(__name__)

_OWN_CLAIMS = frozenset({"exp", "aud", "iat", "sid", "jti"})
"""What our auth service always says."""


@asynccontextmanager
async def open_verifier(
    settings: ServiceSettings,
    *,
    own_keys: FixedKeys | None = None,
    supervisor: Supervisor | None = None,
) -> AsyncGenerator[TokenVerifier]:
    """The verifier that the settings describe.

    ``own_keys`` stand in for the JWKS URL where the issuer lives in the same process.
    ``supervisor`` is the process's.
    """
    supervisor = supervisor or Supervisor()
    for warning in settings.warnings:
        log.warning("settings_doubtful", reason=warning)
    async with AsyncExitStack() as stack:

        async def fetched(
            url: str, algorithms: frozenset[str], proxy: SecretStr | None = None
        ) -> KeySource:
            proxy = proxy or settings.jwks_proxy
            secret = None if proxy is None else proxy.get_secret_value()
            keys = jwks_keys(url, supervisor, algorithms=algorithms, proxy=secret)
            return await stack.enter_async_context(keys)

        issuers = []
        audience, longest = settings.token_audience, settings.max_token_seconds
        keys: KeySource | None = own_keys
        if keys is None and settings.jwks_url is not None:
            keys = await fetched(settings.jwks_url, settings.key_algorithms)
        if keys is not None:
            make = own_issuer if own_keys or settings.is_own_issuer else foreign_issuer
            issuers.append(
                make(
                    keys,
                    name=settings.token_issuer,
                    audience=audience,
                    max_token_seconds=longest,
                )
            )
        if settings.hmac_secret is not None:
            secret = settings.hmac_secret.get_secret_value()
            issuers.append(secret_issuer(secret, audience=audience, max_token_seconds=longest))
        for entry in settings.issuers:
            if entry.jwks_url is not None:
                keys = await fetched(entry.jwks_url, entry.accepted, entry.jwks_proxy)
            else:
                keys = keys_in(entry)
            issuers.append(listed_issuer(entry, keys, max_token_seconds=longest))
        yield TokenVerifier(issuers, remembered_tokens=settings.remembered_tokens)


def own_issuer(keys: KeySource, *, name: str, audience: str, max_token_seconds: float) -> Issuer:
    """Our auth service, of whose tokens we know what they say."""
    rules = IssuerRules(
        name=name,
        algorithms=frozenset({"EdDSA"}),
        audiences=frozenset({audience}),
        required=_OWN_CLAIMS,
        max_token_seconds=max_token_seconds,
    )
    return Issuer(rules, keys)


def foreign_issuer(
    keys: KeySource, *, name: str, audience: str, max_token_seconds: float
) -> Issuer:
    """Another's, of one name."""
    rules = IssuerRules(
        name=name,
        algorithms=BY_DEFAULT,
        audiences=frozenset({audience}),
        required=frozenset({"exp", "aud"}),
        max_token_seconds=max_token_seconds,
    )
    return Issuer(rules, keys)


def secret_issuer(secret: str, *, audience: str, max_token_seconds: float) -> Issuer:
    """Whoever shares the secret with us, under whatever name.

    Raises:
        ValueError: it is empty, or looks like a public key.
    """
    rules = IssuerRules(
        name=None,
        algorithms=frozenset({"HS256"}),
        audiences=frozenset({audience}),
        max_token_seconds=max_token_seconds,
    )
    return Issuer(rules, UnnamedKeys([trusted_secret(secret)]))


def listed_issuer(entry: IssuerSettings, keys: KeySource, *, max_token_seconds: float) -> Issuer:
    """One of `HUBBUB_ISSUERS`; its tokens live as long as it says, or else as others' do."""
    required = {"exp"} if entry.require_exp else set()
    if entry.audiences:
        required.add("aud")
    rules = IssuerRules(
        name=entry.issuer,
        algorithms=entry.accepted,
        audiences=entry.audiences,
        required=frozenset(required),
        user_claim=entry.user_claim,
        max_token_seconds=entry.max_token_seconds or max_token_seconds,
    )
    return Issuer(rules, keys)


def keys_in(entry: IssuerSettings) -> UnnamedKeys:
    """The keys that stand in the settings themselves."""
    if entry.public_key is not None:
        return UnnamedKeys(map(trusted_key, read_public_keys(entry.public_key)))
    return UnnamedKeys(trusted_secret(each.get_secret_value()) for each in entry.secrets)
