"""The routes of the auth service: parse, call one use case, answer."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service import use_cases
from auth_service.errors import (
    EmailTaken,
    InvalidRefreshToken,
    RevocationPending,
    TooManyFailures,
    TooManyRegistrations,
    WrongCredentials,
)
from auth_service.hash_queue import TooBusy
from auth_service.passwords import Passwords
from auth_service.schemas import JwkSet, NewUser, Refresh, SignIn, TokenPair, User
from auth_service.signing import TokenIssuer
from auth_service.throttle import Throttle
from auth_service.use_cases import Tokens
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction_dependency
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.authentication import bearer_token
from shared.tokens.claims import Claims
from shared.tokens.errors import InvalidToken
from shared.tokens.jwk import public_jwk
from shared.web.addresses import network_of
from shared.web.openapi import problems
from shared.web.router import Router

JWKS_MAX_AGE_SECONDS = 60
MAX_FORM_BYTES = 8 * 1024
"""The longest email and password take 5.4 KiB, with each byte escaped."""
MAX_FORM_FIELDS = 20

# What requests may be answered beside what they ask for.
OF_REGISTERING = (EmailTaken, TooManyRegistrations, TooBusy, DatabaseUnavailable, 413, 422)
OF_SIGNING_IN = (WrongCredentials, TooManyFailures, TooBusy, DatabaseUnavailable, 413, 422)
OF_REFRESHING = (InvalidRefreshToken, DatabaseUnavailable, 413, 422)
OF_SIGNED_IN = (InvalidToken, DatabaseUnavailable)

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class BoundedForms(APIRoute):
    """Checks a form's size before parsing, which takes over a microsecond for each byte."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def measured(request: Request) -> Response:
            if request.headers.get("content-type", "").lower().startswith(_FORMS):
                length = request.headers.get("content-length", "")
                too_long = length.isdecimal() and int(length[:10]) > MAX_FORM_BYTES
                body = b"" if too_long else await request.body()
                if too_long or len(body) > MAX_FORM_BYTES:
                    raise HTTPException(413, f"a form has at most {MAX_FORM_BYTES} bytes")
                parts = body.lower().count(b"content-disposition")
                if max(body.count(b"&") + 1, parts) > MAX_FORM_FIELDS:
                    raise HTTPException(422, f"a form has at most {MAX_FORM_FIELDS} fields")
            return await handle(request)

        return measured


def client_address(request: Request) -> str:
    """What attempts are counted by: an IPv4 address, or an IPv6 network."""
    host = request.client.host if request.client else ""
    return network_of(host) or "unknown"


ClientAddress = Annotated[str, Depends(client_address)]


def create_router(
    sessions: Sessions,
    passwords: Passwords,
    issuer: TokenIssuer,
    verifier: TokenVerifier,
    *,
    publisher: Publisher,
    throttle: Throttle,
    refresh_lifetime: timedelta,
    revoke_seconds: float,
) -> Router:
    """All routes, with their full paths.

    Args:
        verifier: Accepts only the issuer's tokens. The database says whether their session is
            over: it knows first.
    """
    router = Router(prefix="/auth", tags=["auth"], route_class=BoundedForms)

    async def verified(token: Annotated[str, Depends(bearer_token)]) -> Claims:
        return await verifier.verify(token)

    # Types that depend on the arguments. scope="function" commits before the answer is sent.
    Caller = Annotated[Claims, Depends(verified)]  # noqa: N806
    Reading = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions, read_only=True), scope="function")
    ]

    @router.post("/register", status_code=201, responses=problems(*OF_REGISTERING))
    async def register(new: NewUser, address: ClientAddress) -> User:
        user = await use_cases.register(
            sessions,
            passwords,
            throttle=throttle,
            email=new.email,
            name=new.name,
            password=new.password,
            address=address,
        )
        return User.model_validate(user)

    @router.post("/token", responses=problems(*OF_SIGNING_IN))
    async def sign_in(
        form: Annotated[SignIn, Form()], address: ClientAddress, response: Response
    ) -> TokenPair:
        tokens = await use_cases.sign_in(
            sessions,
            passwords,
            issuer,
            throttle=throttle,
            refresh_lifetime=refresh_lifetime,
            email=form.username,
            password=form.password,
            address=address,
        )
        return _pair(tokens, issuer, response)

    @router.post("/token/refresh", responses=problems(*OF_REFRESHING))
    async def refresh(body: Refresh, response: Response) -> TokenPair:
        tokens = await use_cases.refresh(
            sessions,
            publisher,
            issuer,
            body.refresh_token,
            lifetime=refresh_lifetime,
            revoke_seconds=revoke_seconds,
        )
        return _pair(tokens, issuer, response)

    @router.post("/logout", status_code=204, responses=problems(*OF_SIGNED_IN, RevocationPending))
    async def logout(caller: Caller) -> None:
        await use_cases.sign_out(sessions, publisher, caller, revoke_seconds=revoke_seconds)

    @router.get("/me", responses=problems(*OF_SIGNED_IN))
    async def me(caller: Caller, db: Reading) -> User:
        return User.model_validate((await use_cases.active_session(db, caller)).user)

    @router.get("/.well-known/jwks.json")
    async def jwks(response: Response) -> JwkSet:
        response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_SECONDS}"
        return JwkSet(keys=[dict(public_jwk(issuer.public_key))])

    return router


def _pair(tokens: Tokens, issuer: TokenIssuer, response: Response) -> TokenPair:
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 section 5.1
    return TokenPair(
        access_token=tokens.access_token,
        expires_in=issuer.access_token_seconds,
        refresh_token=tokens.refresh_token,
    )
