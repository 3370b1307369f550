"""Settings of every service, read from the environment or from files that it names."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.runtime.issuer_settings import (
    BY_DEFAULT,
    LONGEST_TOKEN_SECONDS,
    IssuerSettings,
    Proxy,
    Secret,
)
from shared.runtime.locale import as_utf8
from shared.web.origins import Origins
from shared.web.peers import PeerLimits

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Amount = Annotated[int, Field(ge=0)]

_OTHER_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}


def _as_logging_spells_it(level: object) -> object:
    if not isinstance(level, str):
        return level
    level = level.strip().upper()
    return _OTHER_LEVELS.get(level, level)


LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(_as_logging_spells_it),
]
"""In upper or lower case."""


MAX_TOKEN_SECONDS = 86_400
"""Unless the settings say otherwise."""

_PEER_DEFAULTS = PeerLimits()

NOBODY_TRUSTED = "none of HUBBUB_JWKS_URL, HUBBUB_HMAC_SECRET and HUBBUB_ISSUERS is set"

OWN_ISSUER = "hubbub"
"""What our auth service calls itself, unless it is told otherwise."""


class _EnvOrFile(EnvSettingsSource):
    """``HUBBUB_X`` from the environment, else from the file that ``HUBBUB_X_FILE`` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        if value is None:
            for _, name, _ in self._extract_field_info(field, field_name):
                path = self.env_vars.get(f"{name}_file")
                if path is not None:
                    value = Path(path).read_text(encoding="utf-8").rstrip("\n")
                    return value, key, is_complex
        if isinstance(value, str) and not _is_path(field):
            value = as_utf8(value)
        return value, key, is_complex

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError as error:
            (_, name, _), *_ = self._extract_field_info(field, field_name)
            raise ValueError(f"{name.upper()}: no JSON: {error}") from None


def _is_path(field: FieldInfo) -> bool:
    """Paths are bytes to the system, whatever the locale."""
    return Path in (field.annotation, *get_args(field.annotation))


class ServiceSettings(BaseSettings):
    """What all services share, under ``HUBBUB_``; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="HUBBUB_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    nats_url: str = Field("nats://127.0.0.1:4222", validation_alias="HUBBUB_NATS_URL")
    nats_creds: Path | None = Field(None, validation_alias="HUBBUB_NATS_CREDS")
    nats_ca: Path | None = Field(None, validation_alias="HUBBUB_NATS_CA")
    """The authority of the server's certificate; with it TLS is required."""
    jwks_url: str | None = Field(None, validation_alias="HUBBUB_JWKS_URL")
    jwks_proxy: Proxy | None = Field(None, validation_alias="HUBBUB_JWKS_PROXY")
    """To fetch the keys through; it may hold a password."""
    hmac_secret: Secret | None = Field(None, validation_alias="HUBBUB_HMAC_SECRET")
    token_issuer: str = Field(OWN_ISSUER, validation_alias="HUBBUB_TOKEN_ISSUER")
    token_audience: str = Field("hubbub", validation_alias="HUBBUB_TOKEN_AUDIENCE")
    max_token_seconds: Seconds = Field(
        MAX_TOKEN_SECONDS, validation_alias="HUBBUB_MAX_TOKEN_SECONDS"
    )
    """Longer-lived tokens are refused, unless an entry of `issuers` takes them."""
    issuers: tuple[IssuerSettings, ...] = Field((), validation_alias="HUBBUB_ISSUERS")
    """Whose tokens to trust beside those of the variables above, as JSON."""
    max_clock_offset_seconds: Seconds = Field(
        15, validation_alias="HUBBUB_MAX_CLOCK_OFFSET_SECONDS"
    )
    """Of our clock from the bus's; with more, no service that verifies tokens is ready. It is half
    of what an issuer's clock may be ahead of ours."""
    await_auth_service: bool | None = Field(None, validation_alias="HUBBUB_AWAIT_AUTH_SERVICE")
    """Whether a new or lost bus lets nobody in before the auth service has said which sessions are
    over. By default if keys are fetched and the issuer is ``hubbub``."""
    remembered_tokens: Amount = Field(10_000, validation_alias="HUBBUB_REMEMBERED_TOKENS")
    """Verified tokens whose signature need not be checked again; 0 caches none."""
    log_level: LogLevel = Field("INFO", validation_alias="HUBBUB_LOG_LEVEL")
    forwarded_allow_ips: str = Field("127.0.0.1", validation_alias="HUBBUB_FORWARDED_ALLOW_IPS")
    """Proxies whose X-Forwarded-For is trusted: addresses and networks, or ``*`` for all."""
    allowed_origins: str = Field("", validation_alias="HUBBUB_ALLOWED_ORIGINS")
    """Of pages that may talk to us from a browser, with commas between; `*` in one stands for any
    characters. By default pages of the same host, and on this machine those of this machine."""
    keep_alive_seconds: Seconds = Field(
        _PEER_DEFAULTS.keep_alive_seconds, validation_alias="HUBBUB_KEEP_ALIVE_SECONDS"
    )
    """For the next request on an HTTP connection; longer than any proxy in front keeps it."""
    max_idle_connections: Count = Field(
        _PEER_DEFAULTS.max_idle, validation_alias="HUBBUB_MAX_IDLE_CONNECTIONS"
    )
    """Between two requests, in this process; with more, the longest idle ends."""
    reserved_files: Count = Field(
        _PEER_DEFAULTS.reserved_files, validation_alias="HUBBUB_RESERVED_FILES"
    )
    """Open files that accepted sockets may not take, kept for the bus and the databases."""

    @property
    def peer_limits(self) -> PeerLimits:
        return PeerLimits(
            keep_alive_seconds=self.keep_alive_seconds,
            max_idle=self.max_idle_connections,
            reserved_files=self.reserved_files,
        )

    def origins(self) -> Origins:
        return Origins(self.allowed_origins)

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        Origins(origins)
        return origins

    @property
    def awaits_auth_service(self) -> bool:
        if self.await_auth_service is not None:
            return self.await_auth_service
        return self.jwks_url is not None and self.token_issuer == OWN_ISSUER

    @property
    def trusts_somebody(self) -> bool:
        """Whether there is anybody whose tokens are taken."""
        return bool(self.jwks_url or self.hmac_secret or self.issuers)

    @property
    def is_own_issuer(self) -> bool:
        """Whether `token_issuer` is our auth service, of which we know what its tokens say."""
        return self.token_issuer == OWN_ISSUER or self.awaits_auth_service

    @property
    def key_algorithms(self) -> frozenset[str]:
        """What tokens may be signed with by the keys of `jwks_url`."""
        return frozenset({"EdDSA"}) if self.is_own_issuer else BY_DEFAULT

    @property
    def longest_token_seconds(self) -> float:
        """How long a token may live, of whomever; revocations are kept for as long."""
        longest = self.max_token_seconds
        for issuer in self.issuers:
            if not issuer.require_exp:
                return max(longest, LONGEST_TOKEN_SECONDS)
            longest = max(longest, issuer.max_token_seconds or 0.0)
        return longest

    @property
    def warnings(self) -> list[str]:
        """What is allowed and may be a mistake, in a service that verifies tokens."""
        warnings = []
        is_unsaid = self.await_auth_service is None
        if is_unsaid and self.jwks_url is not None and self.token_issuer != OWN_ISSUER:
            warnings.append(
                f"HUBBUB_AWAIT_AUTH_SERVICE is not set, and the issuer is not {OWN_ISSUER!r}: after"
                " a loss of the bus the revoked are let in. Set it to true if the keys are of our"
                " auth service, else to false"
            )
        for number, issuer in enumerate(self.issuers):
            if not (issuer.secrets or issuer.audience):
                warnings.append(
                    f"HUBBUB_ISSUERS.{number} has no audience: what the issuer signs for other"
                    " applications is taken here too"
                )
            if issuer.issuer == OWN_ISSUER:
                warnings.append(
                    f"HUBBUB_ISSUERS.{number} is called {OWN_ISSUER!r}: of our auth service"
                    " HUBBUB_JWKS_URL tells, else nobody waits for its word on ended sessions"
                )
            if not issuer.require_exp:
                warnings.append(
                    f"HUBBUB_ISSUERS.{number} takes tokens without end: {LONGEST_TOKEN_SECONDS:g} s"
                    " after it was revoked, such a token is taken again"
                )
        return warnings

    @model_validator(mode="after")
    def _each_token_has_one_issuer(self) -> Self:
        taken: set[tuple[str | None, str]] = set()
        if self.jwks_url is not None:
            taken |= {(self.token_issuer, each) for each in self.key_algorithms}
        if self.hmac_secret is not None:
            taken.add((None, "HS256"))
        for number, issuer in enumerate(self.issuers):
            for algorithm in issuer.accepted:
                if (issuer.issuer, algorithm) in taken:
                    raise ValueError(
                        f"HUBBUB_ISSUERS.{number}: what it signs with {algorithm} is taken of"
                        " another already, that of the variables beside it, or an earlier entry"
                    )
                taken.add((issuer.issuer, algorithm))
        return self

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_forwarded_allow_ips(cls, proxies: str) -> str:
        """Uvicorn would take any other text for a host name, and trust nobody."""
        for proxy in map(str.strip, proxies.split(",")):
            try:
                if proxy and proxies.strip() != "*":
                    ip_network(proxy)
            except ValueError:
                raise ValueError(f"{proxy!r} is neither an address nor a network") from None
        return proxies.strip()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _EnvOrFile(settings_cls)


def environment_names(settings: type[ServiceSettings]) -> list[str]:
    """The environment variables that a settings class reads."""
    prefix = settings.model_config.get("env_prefix", "")
    return [
        str(field.validation_alias or f"{prefix}{name}".upper())
        for name, field in settings.model_fields.items()
    ]
