"""The API: its commands by name, alone and in batches."""

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.server_api.errors import Answer, ApiError, ApiErrorCode, answered
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
        return await answered(self._run(name, body))

    async def batch(self, body: Any) -> Answer:
        """Run many: return the ``replies`` in order, without a ``result`` around them."""
        try:
            request = parse(BatchRequest, body)
        except ApiError as error:
            return {"error": error.answer}
        if not request.parallel:
            return {"replies": [await self._reply(command) for command in request.commands]}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reply(command)) for command in request.commands]
        return {"replies": [task.result() for task in tasks]}

    async def _reply(self, command: dict[str, Any]) -> Answer:
        """What one command of a batch is answered: its ``result`` bears its name."""
        name = next((name for name in command if name in self._run_by_name), "")
        answer = await self.call(name, command.get(name))
        return {name: answer["result"]} if "result" in answer else answer

    async def _run(self, name: str, body: Any) -> Mapping[str, Any]:
        run = self._run_by_name.get(name)
        if run is None:
            raise ApiError(ApiErrorCode.NOT_FOUND)
        return await run(parse(METHODS[name].takes, body))


async def _rpc(_request: RpcRequest) -> Done:
    """There are no procedures to call."""
    raise ApiError(ApiErrorCode.NOT_FOUND)
