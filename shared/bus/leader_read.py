"""Asking a stream's leader for what comes next: slower than Direct Get, and never behind."""

import json

from shared.bus.client import Bus
from shared.bus.errors import BusUnavailable

_NO_MESSAGE = 10037


async def next_on_leader(
    bus: Bus, stream: str, subject: str, sequence: int, *, timeout_seconds: float = 2.0
) -> int | None:
    """The first sequence of the subject at or after the given one; None if there is none.

    Raises:
        BusUnavailable: no answer, or no leader.
    """
    request = {"seq": sequence, "next_by_subj": subject}
    answer = json.loads(
        await bus.request(
            f"$JS.API.STREAM.MSG.GET.{stream}",
            json.dumps(request).encode(),
            timeout_seconds=timeout_seconds,
        )
    )
    error = answer.get("error")
    if error is None:
        found: int = answer["message"]["seq"]
        return found
    if error.get("err_code") == _NO_MESSAGE:
        return None
    raise BusUnavailable(f"stream {stream}: {error.get('description')}")
