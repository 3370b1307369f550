"""Tasks that people give each other: who is given one hears of it at once."""

import logging
from itertools import count
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings

from examples.fastapi_users.users import BadCredentials, NameTaken, User, Users
from hubbub_client import HubbubError
from hubbub_client.fastapi import HubbubDep, hubbub_lifespan
from hubbub_client.tokens import connection_token

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
BUNDLE = Path("node_modules/centrifuge/dist/centrifuge.js")


class Settings(BaseSettings):
    """From the environment."""

    hubbub_api_key: SecretStr
    hubbub_hmac_secret: SecretStr
    """Both of which the gateway knows, too."""
    fastapi_users_secret: SecretStr
    """Ours alone."""
    fastapi_users_gateway: str = "127.0.0.1:8000"
    """Where we find it, and so do browsers."""
    fastapi_users_sdk: Path = FOLDER / BUNDLE
    """What npm has put there."""


class SignUp(BaseModel):
    name: str = Field(min_length=1, max_length=40)
    password: str = Field(min_length=8, max_length=200)


class SignedIn(BaseModel):
    access_token: str
    token_type: str = "bearer"


class Realtime(BaseModel):
    """What a page connects with."""

    url: str
    token: str


class NewTask(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    to: str
    """The name of whom it is given to."""


class TaskGiven(BaseModel):
    """The event; and how a task is listed."""

    number: int
    title: str
    by: str


def signed_in(
    request: Request, token: Annotated[str, Depends(OAuth2PasswordBearer("sign-in"))]
) -> User:
    users: Users = request.app.state.users
    try:
        return users.of_token(token)
    except BadCredentials as error:
        raise HTTPException(401) from error


Me = Annotated[User, Depends(signed_in)]


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    gateway = settings.fastapi_users_gateway
    realtime_secret = settings.hubbub_hmac_secret.get_secret_value()
    api_key = settings.hubbub_api_key.get_secret_value()
    tasks: dict[UUID, list[TaskGiven]] = {}
    numbers = count(1)

    app = FastAPI(lifespan=hubbub_lifespan(f"http://{gateway}", api_key))
    users = app.state.users = Users(settings.fastapi_users_secret.get_secret_value())

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(FOLDER / "page.html")

    @app.get("/centrifuge.js")
    def sdk() -> FileResponse:
        return FileResponse(settings.fastapi_users_sdk)

    @app.post("/sign-up", status_code=201)
    def sign_up(new: SignUp) -> SignedIn:
        try:
            user = users.sign_up(new.name, new.password)
        except NameTaken as error:
            raise HTTPException(409, "that name is taken") from error
        return SignedIn(access_token=users.token_of(user))

    @app.post("/sign-in")
    def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> SignedIn:
        try:
            user = users.sign_in(form.username, form.password)
        except BadCredentials as error:
            raise HTTPException(401, "wrong name or password") from error
        return SignedIn(access_token=users.token_of(user))

    @app.post("/realtime")
    def realtime(me: Me) -> Realtime:
        token = connection_token(me.id, name=me.name, secret=realtime_secret)
        return Realtime(url=f"ws://{gateway}/connection/websocket", token=token)

    @app.get("/tasks")
    def list_tasks(me: Me) -> list[TaskGiven]:
        return tasks.get(me.id, [])

    @app.post("/tasks", status_code=201)
    async def give(new: NewTask, me: Me, hubbub: HubbubDep) -> TaskGiven:
        other = users.named(new.to)
        if other is None:
            raise HTTPException(404, "nobody has that name")
        task = TaskGiven(number=next(numbers), title=new.title, by=me.name)
        tasks.setdefault(other.id, []).append(task)
        try:
            await hubbub.notify(other.id, task)
        except HubbubError as error:  # the task is given all the same
            log.warning("task %d is not told: %s", task.number, error)
        return task

    return app
