"""Routes that applications may share: FastAPI takes them apart once, where they are written."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute


class Router(APIRouter):
    """With operations that are called what their functions are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=_operation_id, **options)

    def add_to(self, app: FastAPI) -> None:
        """As `include_router` would, which takes each route apart once more for each application.

        What differs from one to the other, routes find in ``request.app.state``.
        """
        app.router.routes.extend(self.routes)


def _operation_id(route: APIRoute) -> str:
    return route.name
