"""The FastAPI dependency that turns a bearer token into verified claims."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hubbub_client.contracts.errors import AppError, Unavailable
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.claims import Claims
from shared.tokens.errors import InvalidToken, KeysUnknown
from shared.tokens.revocations import Revocations


class RevocationsUnknown(Unavailable):
    """The revocations are not known yet, so a session that is over would pass for a live one."""

    code = "revocations_unknown"


_BEARER = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description="An access token: of `POST /auth/token`, or of another issuer that is trusted.",
    auto_error=False,
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]

REFUSALS: tuple[type[AppError], ...] = (InvalidToken, KeysUnknown, RevocationsUnknown)
"""What `authenticate` raises."""


def bearer_token(bearer: Bearer) -> str:
    """The request's bearer token, unchecked.

    Raises:
        InvalidToken: there is none.
    """
    if bearer is None:
        raise InvalidToken("a bearer token is needed")
    return bearer.credentials


def authenticate(
    verifier: TokenVerifier, revocations: Revocations, *, revocations_known: Callable[[], bool]
) -> Callable[[str], Awaitable[Claims]]:
    """Make the dependency: ``Caller = Annotated[Claims, Depends(authenticate(…))]``.

    Args:
        verifier: Verifies the token.
        revocations: Kept up to date from the CTL stream.
        revocations_known: Whether all of them were known once.
    """

    async def caller(token: Annotated[str, Depends(bearer_token)]) -> Claims:
        claims = await verifier.verify(token)
        if not revocations_known():
            raise RevocationsUnknown("revoked sessions are not known yet")
        if revocations.is_revoked(claims):
            raise InvalidToken("the session is over")
        return claims

    return caller
