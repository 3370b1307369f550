"""Requests, answers and retries, without I/O: what both clients do, as generators.

A generator yields what is to be done, a `Request` or a `Pause`, is sent what came of it, and
returns the result.
"""

import json
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, TypeVar

from hubbub_client.errors import (
    BadRequest,
    HubbubError,
    IdempotencyKeyReused,
    NotAvailable,
    PositionLost,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownChannel,
)

T = TypeVar("T")

MAX_REQUEST_BYTES = 64 * 1024
"""Gateways read no longer one. A publication or an event is no longer on any other way."""
KEY_SECONDS = 300
"""How long an idempotency key counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is tried, and how much at once.

    Raises:
        ValueError: one is not above 0, or the deadline not below `KEY_SECONDS`.
    """

    deadline_seconds: float = 10.0
    """For a command with all its retries. Later its key would count no more."""
    attempt_seconds: float = 4.0
    """For one request and its answer."""
    first_pause_seconds: float = 0.1
    """Before the first retry; each pause is twice as long as the one before it."""
    longest_pause_seconds: float = 2.0
    max_batch: int = 100
    """Publications in one request, or channels of one broadcast."""
    max_body_bytes: int = 60_000
    """Of a request with several publications; below `MAX_REQUEST_BYTES`."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise ValueError(f"{each.name} is not above 0")
        if self.deadline_seconds >= KEY_SECONDS:
            raise ValueError(f"deadline_seconds is not below {KEY_SECONDS}")


class Request(NamedTuple):
    """POST this below `/api/`, and send back a `Response`, `NoResponse` or `Unreadable`."""

    method: str
    body: bytes
    timeout_seconds: float


class Pause(NamedTuple):
    """Wait, and send back None."""

    seconds: float


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class NoResponse(NamedTuple):
    """The connection failed, or it took too long."""

    reason: str


NOT_IN_TIME = NoResponse("no answer in time")


class Unreadable(NamedTuple):
    """Something answered, and it is not as HTTP has it, or has no end."""

    reason: str


Outcome: TypeAlias = Response | NoResponse | Unreadable | None
Steps: TypeAlias = Generator[Request | Pause, Outcome, T]
Answer: TypeAlias = dict[str, Any]


class Temporary(HubbubError):
    """The same may succeed a moment later. Callers of the client never see it."""

    def __init__(self, reason: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class NotInTime(Temporary):
    """An attempt had no answer within its time, which may be what is left until the deadline."""


class Attempts:
    """The retries of one command: their pauses, and their end at the deadline."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._deadline = clock() + limits.deadline_seconds
        self._pause_seconds = limits.first_pause_seconds
        self._last_problem: Temporary | None = None

    def request(self, method: str, body: bytes) -> Request:
        left = max(self._deadline - self._clock(), 0.0)
        return Request(method, body, min(left, self._limits.attempt_seconds))

    def pause_after(self, problem: Temporary) -> Pause:
        """
        Raises:
            Unavailable: the deadline would pass meanwhile.
        """
        # Not all at the same moment: a gateway that comes back would have to refuse them again.
        jittered = self._pause_seconds * random.uniform(0.5, 1.0)
        seconds = max(jittered, problem.retry_after_seconds)
        if isinstance(problem, NotInTime):  # what was wrong before says more
            problem = self._last_problem or problem
        if self._clock() + seconds >= self._deadline:
            raise Unavailable(str(problem)) from problem
        self._last_problem = problem
        self._pause_seconds = min(2 * self._pause_seconds, self._limits.longest_pause_seconds)
        return Pause(seconds)


def ask(method: str, body: Answer, parse: Callable[[Answer], T], attempts: Attempts) -> Steps[T]:
    """Ask until there is an answer; return what its `result` says.

    Raises:
        HubbubError: it is an error, or there was none in time.
    """
    encoded = to_json(body)
    while True:
        outcome = yield attempts.request(method, encoded)
        try:
            return parsed(parse, result_in(answer_in(outcome)))
        except Temporary as problem:
            pause = attempts.pause_after(problem)
        yield pause


def ask_for_each(
    items: Sequence[bytes],
    request_for: Callable[[Sequence[bytes]], tuple[str, bytes]],
    replies_in: Callable[[Answer], list[Answer]],
    parse: Callable[[Answer], T],
    attempts: Attempts,
) -> Steps[list[T | HubbubError]]:
    """Ask for several in one request, then again for those that may still succeed.

    Args:
        items: Encoded.
        request_for: Makes the method and the body for some of them.
        replies_in: Finds a reply for each in the answer, with a `result` or an `error`.
    """
    outcomes: list[T | HubbubError] = [Unavailable("it was not tried")] * len(items)
    pending = list(range(len(items)))
    while True:
        outcome = yield attempts.request(*request_for([items[each] for each in pending]))
        try:
            replies = parsed(replies_in, answer_in(outcome))
            results = [_result_or_error(parse, reply) for reply in replies]
        except HubbubError as error:
            results = [error] * len(pending)
        if len(results) != len(pending):
            results = [UnexpectedAnswer("not a reply for each")] * len(pending)
        again = None
        for each, result in zip(pending, results, strict=True):
            outcomes[each] = result
            if isinstance(result, Temporary):
                again = result
        if again is None:
            return outcomes
        pending = [each for each in pending if isinstance(outcomes[each], Temporary)]
        try:
            pause = attempts.pause_after(again)
        except Unavailable as gave_up:
            for each in pending:
                outcomes[each] = gave_up
            return outcomes
        yield pause


def answer_in(outcome: Outcome) -> Answer:
    """What a gateway has answered.

    Raises:
        HubbubError: it has not.
    """
    if isinstance(outcome, Unreadable):
        raise UnexpectedAnswer(outcome.reason)
    if outcome == NOT_IN_TIME:
        raise NotInTime(NOT_IN_TIME.reason)
    if not isinstance(outcome, Response):
        raise Temporary(outcome.reason if outcome else "no response")
    status, headers, body = outcome
    if status == HTTPStatus.OK:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict):
            return answer
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Temporary(f"answered with status {status}", _seconds_in(headers))
    raise _ERROR_OF_STATUS.get(status, UnexpectedAnswer)(f"answered with status {status}")


def result_in(answer: Answer) -> Answer:
    """
    Raises:
        HubbubError: it is an error.
    """
    error = answer.get("error")
    if error is None:
        return parsed(lambda answer: answer["result"], answer)
    code, message = parsed(lambda error: (error["code"], error["message"]), error)
    raise _ERROR_OF_CODE.get(code, UnexpectedAnswer)(f"{message} ({code})")


def parsed(parse: Callable[[Answer], T], answer: Answer) -> T:
    """
    Raises:
        UnexpectedAnswer: it has another form.
    """
    try:
        return parse(answer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"not as a gateway answers: {error!r}") from error


def check_size(payload: bytes) -> None:
    """
    Raises:
        TooLarge: a gateway would take no request with that.
    """
    if len(payload) > MAX_REQUEST_BYTES:
        raise TooLarge(f"{len(payload)} bytes, of at most {MAX_REQUEST_BYTES}")


def to_json(value: object) -> bytes:
    """
    Raises:
        TypeError, ValueError: it is not to be written as JSON.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


_ERROR_OF_CODE: Mapping[int, type[HubbubError]] = {
    100: Temporary,
    102: UnknownChannel,
    104: NotAvailable,
    107: BadRequest,
    108: NotAvailable,
    112: PositionLost,
    113: IdempotencyKeyReused,
}
_ERROR_OF_STATUS: Mapping[int, type[HubbubError]] = {
    HTTPStatus.BAD_REQUEST: BadRequest,
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.NOT_FOUND: Unauthorized,  # a gateway without a key has no server API
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
}


def _result_or_error(parse: Callable[[Answer], T], reply: Answer) -> T | HubbubError:
    try:
        return parsed(parse, result_in(reply))
    except HubbubError as error:
        return error


def _seconds_in(headers: Mapping[str, str]) -> float:
    """What Retry-After says, if it is a number of seconds."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
