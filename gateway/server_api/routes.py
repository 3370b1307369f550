"""The API over HTTP, as Centrifugo's clients expect it.

A command is answered with 200 and a ``result`` or an ``error``; a request without a valid command
or key gets another status. Who asks for it is told of errors by a status too.
"""

import hmac
from functools import partial
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import SecretStr

from gateway.server_api.api import Api
from gateway.server_api.errors import STATUS_OF_CODE, Answer
from gateway.server_api.requests import ApiRequest, BatchRequest
from shared.contracts.json_values import read_json

BATCH = "batch"


def create_api_router(api: Api, *, api_key: SecretStr | None) -> APIRouter:
    """The routes below ``/api``. If no key is configured, they answer 404."""
    router = APIRouter(tags=["server API"])
    models = {name: method.model for name, method in api.methods.items()} | {BATCH: BatchRequest}
    for name, model in models.items():
        router.add_api_route(
            f"/api/{name}",
            partial(_call, api, api_key, name),
            methods=["POST"],
            name=name,
            openapi_extra=_body(model),
        )

    @router.post("/api/{method}", include_in_schema=False)
    async def unknown(method: str, request: Request) -> Response:
        return await _call(api, api_key, method, request)

    return router


async def _call(api: Api, api_key: SecretStr | None, name: str, request: Request) -> Response:
    if api_key is None:
        raise HTTPException(404, "Not Found")
    if not _has_key(request, api_key):
        return Response(status_code=401)
    try:
        body = read_json(await request.body())
    except ValueError:
        return PlainTextResponse("the body is not JSON", status_code=400)
    answer = await (api.batch(body) if name == BATCH else api.call(name, body))
    error = answer.get("error")
    if error is not None and request.headers.get("x-centrifugo-error-mode") == "transport":
        return JSONResponse(error, status_code=STATUS_OF_CODE[error["code"]])
    return JSONResponse(answer)


def _body(model: type[ApiRequest]) -> Answer:
    schema: dict[str, Any] = model.model_json_schema()
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def _has_key(request: Request, api_key: SecretStr) -> bool:
    """Whether one of the three places has the key, compared in constant time."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    offered = [
        request.headers.get("x-api-key", ""),
        credentials.strip() if scheme.lower() == "apikey" else "",
        request.query_params.get("api_key", ""),
    ]
    expected = api_key.get_secret_value().encode()
    # All are compared, so that the time says nothing; as bytes, since a header may hold any.
    matches = [
        hmac.compare_digest(each.encode(errors="surrogatepass"), expected) for each in offered
    ]
    return bool(expected) and any(matches)
