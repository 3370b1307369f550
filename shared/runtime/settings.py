"""Settings of every service, read from the environment or from files that it names."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from hubbub_client.nats.address import check_servers, tls_context
from shared.runtime.environment import (
    EnvOrFile,
    WrongSettings,
    environment_names,
    problems_in,
    problems_with_names,
)
from shared.runtime.issuer_settings import (
    BY_DEFAULT,
    HMAC_BYTES,
    LONGEST_TOKEN_SECONDS,
    HttpUrl,
    IssuerSettings,
    Name,
    Proxy,
    Secret,
    ends_with_space,
    is_short,
)
from shared.web.origins import Origins
from shared.web.peers import PeerLimits

LONGEST_SECONDS = 100 * 365 * 86_400
"""More can't be expressed everywhere, such as in the nanoseconds of NATS."""
MOST = 2**53 - 1

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
Grace = Annotated[float, Field(ge=0, le=LONGEST_SECONDS)]
Rate = Annotated[float, Field(ge=0, le=MOST)]
"""In a second; 0 is no limit."""
Count = Annotated[int, Field(gt=0, le=MOST)]
Bytes = Annotated[int, Field(gt=0, le=MOST)]
Amount = Annotated[int, Field(ge=0, le=MOST)]

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

ENDS_WITH_SPACE = "ends with a space or a line's end, which counts as a part of it"
_GUESSED = f"is shorter than {HMAC_BYTES} bytes: who has a token can guess it, and make tokens"

_SERVICES = ("HUBBUB_AUTH_", "HUBBUB_POSTS_", "HUBBUB_GATEWAY_")
_OF_SOME_SERVICES = ("HUBBUB_DATABASE_URL", "HUBBUB_API_KEY")
"""Beside those that have a service's name: all may be set in one file for all processes."""
_OF_CLIENTS = ("HUBBUB_COMMAND", "HUBBUB_OUTBOX_DATABASE_URL", "HUBBUB_URL")
"""Of the client's fixtures, and of an application's relay."""
_OF_COMPOSE = (
    "HUBBUB_BIND", "HUBBUB_EDGE_", "HUBBUB_GATEWAY_MEMORY", "HUBBUB_GATEWAY_STOP_SECONDS",
    "HUBBUB_GRAFANA_", "HUBBUB_HTTPS_BIND", "HUBBUB_HTTPS_PORT", "HUBBUB_HTTP_PORT",
    "HUBBUB_IMAGE", "HUBBUB_OBSERVE_BIND", "HUBBUB_PORT", "HUBBUB_PROMETHEUS_",
    "HUBBUB_PULL_POLICY", "HUBBUB_SECRETS", "HUBBUB_SITE_ADDRESS",
)  # fmt: skip
_OF_TESTS = ("HUBBUB_E2E", "HUBBUB_TEST_")

NOBODY_TRUSTED = "none of HUBBUB_JWKS_URL, HUBBUB_HMAC_SECRET and HUBBUB_ISSUERS is set"

OWN_ISSUER = "hubbub"
"""What our auth service calls itself, unless it is told otherwise."""


def _is_readable(file: Path) -> Path:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    return file


def _are_certificates(file: Path) -> Path:
    tls_context("", file)
    return file


class ServiceSettings(BaseSettings):
    """What all services share, under ``HUBBUB_``; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="HUBBUB_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """What settings were called before, and what they are called now."""

    nats_url: Annotated[str, AfterValidator(check_servers)] = Field(
        "nats://127.0.0.1:4222", validation_alias="HUBBUB_NATS_URL"
    )
    nats_creds: Annotated[Path, AfterValidator(_is_readable)] | None = Field(
        None, validation_alias="HUBBUB_NATS_CREDS"
    )
    nats_ca: Annotated[Path, AfterValidator(_are_certificates)] | None = Field(
        None, validation_alias="HUBBUB_NATS_CA"
    )
    """The authority of the server's certificate; with it TLS is required."""
    jwks_url: HttpUrl | None = Field(None, validation_alias="HUBBUB_JWKS_URL")
    jwks_proxy: Proxy | None = Field(None, validation_alias="HUBBUB_JWKS_PROXY")
    """To fetch the keys through; it may hold a password."""
    hmac_secret: Secret | None = Field(None, validation_alias="HUBBUB_HMAC_SECRET")
    token_issuer: Name = Field(OWN_ISSUER, validation_alias="HUBBUB_TOKEN_ISSUER")
    token_audience: Name = Field("hubbub", validation_alias="HUBBUB_TOKEN_AUDIENCE")
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

    def lacking(self) -> list[str]:
        """What a service can't do without, when it runs by itself."""
        return [] if self.trusts_somebody else [f"{NOBODY_TRUSTED}: no token could be checked"]

    @property
    def warnings(self) -> list[str]:
        """What is allowed and may be a mistake."""
        warnings = []
        if self.hmac_secret is not None and is_short(self.hmac_secret):
            warnings.append(f"HUBBUB_HMAC_SECRET {_GUESSED}")
        if self.hmac_secret is not None and ends_with_space(self.hmac_secret):
            warnings.append(f"HUBBUB_HMAC_SECRET {ENDS_WITH_SPACE}")
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
            if any(map(is_short, issuer.secrets)):
                warnings.append(f"HUBBUB_ISSUERS.{number}: a secret {_GUESSED}")
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
        return init_settings, EnvOrFile(settings_cls)


Read = TypeVar("Read", bound=ServiceSettings)


def read_settings(kind: type[Read], *, alone: bool = False, **given: Any) -> Read:
    """Read them from the environment, and see that it holds nothing that is meant and not read.

    Args:
        alone: Whether a service has nothing but them, as a process of its own.
        given: What is not the environment's to say.

    Raises:
        WrongSettings: all that is wrong.
    """
    prefix = kind.model_config["env_prefix"]
    problems = list(
        problems_with_names(
            environment_names(kind),
            renamed=kind.renamed,
            of_others=(
                *(each for each in _SERVICES if each != prefix),
                *_OF_SOME_SERVICES,
                *_OF_CLIENTS,
                *_OF_COMPOSE,
                *_OF_TESTS,
            ),
        )
    )
    try:
        settings = kind(**given)
        problems += settings.lacking() if alone else []
    except ValidationError as error:
        problems += problems_in(error, kind)
    except WrongSettings as error:
        problems += error.problems
    except SettingsError as error:  # what is raised while a value is read is its cause
        problems += getattr(error.__cause__, "problems", [str(error)])
    else:
        if not problems:
            return settings
    raise WrongSettings(problems)
