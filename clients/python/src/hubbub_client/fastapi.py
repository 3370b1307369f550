"""One client for a FastAPI application, from its start to its end."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, TypedDict

from hubbub_client.client import DEFAULT_LIMITS, Hubbub
from hubbub_client.exchange import Limits

try:
    from fastapi import Depends, FastAPI
    from fastapi.requests import HTTPConnection
except ImportError as error:
    raise ImportError("this needs FastAPI: pip install 'hubbub-client[fastapi]'") from error


class State(TypedDict):
    """What the lifespan adds to the state of requests. A lifespan of your own may do the same."""

    hubbub: Hubbub


def hubbub_lifespan(
    url: str, api_key: str, *, limits: Limits = DEFAULT_LIMITS
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """What `FastAPI(lifespan=…)` takes."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
        async with Hubbub(url, api_key, limits=limits) as hubbub:
            yield {"hubbub": hubbub}

    return lifespan


def the_hubbub(connection: HTTPConnection) -> Hubbub:
    """The application's client, or what `dependency_overrides` has in its place.

    Raises:
        RuntimeError: its lifespan has not run.
    """
    hubbub: Hubbub | None = getattr(connection.state, "hubbub", None)
    if hubbub is None:
        raise RuntimeError(
            "no client: the application has no lifespan=hubbub_lifespan(…), or it has not run;"
            " in tests it runs within `with TestClient(app)`"
        )
    return hubbub


HubbubDep = Annotated[Hubbub, Depends(the_hubbub)]
"""The type of a parameter that is the application's client."""
