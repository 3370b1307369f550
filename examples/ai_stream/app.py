"""The application: it knows its users, serves them the page, and takes their questions."""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import jwt
from fastapi import Cookie, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings

from examples.ai_stream.answers import Answers, writing
from examples.ai_stream.model import words
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import BusUnavailable, connect_bus

FOLDER = Path(__file__).parent
PAGE = FOLDER / "page"
BUNDLE = Path("node_modules/centrifuge/dist/centrifuge.js")
TOKEN_SECONDS = 900
USER = "ai_stream_user"

User = Annotated[str | None, Cookie(alias=USER)]
"""Who the visitor is; None before there is a session."""


class Settings(BaseSettings):
    """From the environment."""

    hubbub_nats_url: str = "nats://127.0.0.1:4222"
    hubbub_hmac_secret: SecretStr
    """That the gateway knows, too."""
    ai_stream_gateway: str = "ws://127.0.0.1:8000/connection/websocket"
    """Where browsers find it."""
    ai_stream_sdk: Path = FOLDER / BUNDLE
    """What npm has put there."""


class Question(BaseModel):
    question: str = Field(max_length=1000)


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[Mapping[str, Answers]]:
        async with (
            connect_bus(settings.hubbub_nats_url, name="ai_stream") as bus,
            start_publisher(bus) as publisher,
            writing(bus, publisher, words) as answers,
        ):
            await bus.until_connected()
            yield {"answers": answers}

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": policy})

    @app.get("/centrifuge.js")
    def sdk() -> FileResponse:
        return FileResponse(settings.ai_stream_sdk)

    @app.post("/session")
    def session(response: Response, user: User = None) -> dict[str, str]:
        """Who the visitor is, and a token by which the gateway knows it; for a guest, a new one."""
        user = user or secrets.token_hex(16)
        response.set_cookie(USER, user, httponly=True, samesite="strict")
        expiry = datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS)
        secret = settings.hubbub_hmac_secret.get_secret_value()
        token = jwt.encode({"sub": user, "exp": expiry}, secret, "HS256")
        return {"user": user, "token": token, "gateway": settings.ai_stream_gateway}

    @app.post("/questions", status_code=201)
    async def ask(asked: Question, request: Request, user: User = None) -> dict[str, str]:
        if user is None:
            raise HTTPException(401)
        answers: Answers = request.state.answers
        try:
            return {"answer": (await answers.begin(asked.question, user)).id}
        except BusUnavailable as error:
            raise HTTPException(503) from error

    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        f"connect-src 'self' {settings.ai_stream_gateway}"
    )
    app.mount("/page", StaticFiles(directory=PAGE))
    return app
