"""What the auth service reads from its environment."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import Count, Seconds, ServiceSettings
from shared.sql.settings import DatabaseUrl
from shared.tokens.jwk import read_signing_key

LEAST_KIB_A_LANE = 8
"""Source: RFC 9106, section 3.1; so are the greatest that Argon2's parameters may be."""
MOST_KIB = MOST_PASSES = 2**32 - 1
MOST_LANES = 2**24 - 1
MOST_THREADS = 1024


class AuthSettings(ServiceSettings):
    """Units are in the names."""

    model_config = SettingsConfigDict(env_prefix="HUBBUB_AUTH_")

    database_url: DatabaseUrl = Field(validation_alias="HUBBUB_DATABASE_URL")
    signing_key: SecretStr
    """An Ed25519 private key as PEM; whoever has it can sign in as any user."""
    access_token_seconds: Seconds = 900
    refresh_token_seconds: Seconds = 30 * 86_400
    """A session ends if it is not refreshed for this long."""

    throttle_seconds: Seconds = 60
    failures_per_account: Count = 10
    """Failed sign-ins within ``throttle_seconds``; further ones are refused without a check."""
    failures_per_address: Count = 100
    registrations_per_address: Count = 100
    """Registrations within ``throttle_seconds``, failed ones included."""

    hash_threads: Annotated[Count, Field(le=MOST_THREADS)] = 2
    """Passwords hashed at a time; each takes a core, and the memory below. Of several threads,
    registrations leave one to sign-ins."""
    hash_max_waiting: Count = 256
    """Sign-ins that may wait for a thread, and as many registrations; addresses are served in turn.
    With more, the address with the most loses one, or the newcomer is answered 503, try again."""
    hash_wait_seconds: Seconds = 10
    """For a free thread; after it the answer is 503, try again."""
    argon2_memory_kib: Annotated[Count, Field(le=MOST_KIB)] = 64 * 1024
    argon2_passes: Annotated[Count, Field(le=MOST_PASSES)] = 3
    argon2_lanes: Annotated[Count, Field(le=MOST_LANES)] = 4

    revoke_seconds: Seconds = 3
    """How long signing out waits for the bus to store it; after it the answer is 503, try again."""
    prune_interval_seconds: Seconds = 300
    """How often what has expired is deleted."""

    @field_validator("signing_key")
    @classmethod
    def _check_signing_key(cls, pem: SecretStr) -> SecretStr:
        read_signing_key(pem.get_secret_value())
        return pem

    @model_validator(mode="after")
    def _check_token_lifetime(self) -> Self:
        if self.access_token_seconds > self.max_token_seconds:
            raise ValueError(
                "HUBBUB_AUTH_ACCESS_TOKEN_SECONDS is over HUBBUB_MAX_TOKEN_SECONDS: "
                "every service would refuse our tokens"
            )
        return self

    @model_validator(mode="after")
    def _argon2_can_do_it(self) -> Self:
        least = LEAST_KIB_A_LANE * self.argon2_lanes
        if self.argon2_memory_kib < least:
            raise ValueError(
                f"HUBBUB_AUTH_ARGON2_MEMORY_KIB is under {least}, which is {LEAST_KIB_A_LANE} for"
                " each of HUBBUB_AUTH_ARGON2_LANES"
            )
        return self

    def lacking(self) -> list[str]:
        return []  # it takes only what it signed itself

    @property
    def warnings(self) -> list[str]:
        return []  # they are of others' tokens

    @property
    def refresh_token_lifetime(self) -> timedelta:
        return timedelta(seconds=self.refresh_token_seconds)
