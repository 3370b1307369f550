"""The API: its commands by name, alone and in batches."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from gateway.server_api.errors import Answer, ApiError, ApiErrorCode, Begun, Result, failed
from gateway.server_api.methods import METHODS, Run
from gateway.server_api.requests import BatchRequest, RpcRequest, parse
from gateway.server_api.results import Done


class Api:
    """Every caller with the key may use all of it."""

    def __init__(self, *groups: Mapping[str, Run]) -> None:
        """
        Args:
            groups: The commands by name; `rpc` and `batch` are there anyway.
        """
        self._run_by_name: Mapping[str, Run] = {
            name: run for group in groups for name, run in group.items()
        } | {"rpc": _rpc}

    async def call(self, name: str, body: Any) -> Answer:
        """Run a command; return an answer with a ``result`` or an ``error``."""
        return await Begun(self._begin, name, body)

    async def batch(self, body: Any) -> Answer:
        """Run many: return the ``replies`` in order, without a ``result`` around them."""
        try:
            request = parse(BatchRequest, body)
        except ApiError as error:
            return failed(error)
        named = [self._named(command) for command in request.commands]
        if not request.parallel:
            return {"replies": [_reply(name, await self.call(name, body)) for name, body in named]}
        async with asyncio.TaskGroup() as group:
            begun = [(name, self._beside(group, name, body)) for name, body in named]
            return {"replies": [_reply(name, await answer) for name, answer in begun]}

    def _named(self, command: dict[str, Any]) -> tuple[str, Any]:
        """The method that a command of a batch names, and what it takes."""
        for name, body in command.items():
            if name in self._run_by_name:
                return name, body
        return "", None

    def _beside(self, group: asyncio.TaskGroup, name: str, body: Any) -> Awaitable[Answer]:
        """Begin a command that goes on while others do."""
        if name in METHODS and METHODS[name].is_sent_at_once:
            return Begun(self._begin, name, body)
        return group.create_task(self.call(name, body))

    def _begin(self, name: str, body: Any) -> Result:
        run = self._run_by_name.get(name)
        if run is None:
            raise ApiError(ApiErrorCode.NOT_FOUND)
        return run(parse(METHODS[name].takes, body))


def _reply(name: str, answer: Answer) -> Answer:
    """In a batch a result bears the command's name."""
    return {name: answer["result"]} if "result" in answer else answer


async def _rpc(_request: RpcRequest) -> Done:
    """There are no procedures to call."""
    raise ApiError(ApiErrorCode.NOT_FOUND)
