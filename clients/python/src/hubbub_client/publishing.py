"""Publications: the body of one, and many with few requests."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from hubbub_client.arguments import listed
from hubbub_client.errors import (
    HubbubError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from hubbub_client.events import to_data
from hubbub_client.exchange import (
    Answer,
    Attempts,
    Limits,
    Steps,
    ask_for_each,
    result_in,
    to_json,
)
from hubbub_client.results import Position


@dataclass(frozen=True, slots=True)
class Publish:
    """One of many publications; `Hubbub.publish` explains the fields."""

    channel: str
    data: object
    idempotency_key: str | None = None
    tags: dict[str, str] | None = None
    delta: bool = False

    def to_body(self) -> Answer:
        """
        Raises:
            ValueError: the data is no event, though it looks like one.
        """
        key = self.idempotency_key or a_key()
        body: Answer = {
            "channel": self.channel,
            "data": to_data(self.data, key),
            "idempotency_key": key,
        }
        if self.tags is not None:
            body["tags"] = self.tags
        if self.delta:
            body["delta"] = True
        return body


class PartlyPublished(HubbubError):
    """Of many publications, some were not stored; `outcomes` says which."""

    code = "partly_published"

    def __init__(self, outcomes: Sequence[Position | HubbubError]) -> None:
        """
        Args:
            outcomes: Of each publication, in the order in which they were given.
        """
        self.outcomes = outcomes
        failed = [each for each in outcomes if isinstance(each, HubbubError)]
        super().__init__(f"{len(failed)} of {len(outcomes)} failed, the first so: {failed[0]}")

    def __reduce__(self) -> tuple[type[Self], tuple[Sequence[Position | HubbubError]]]:
        """For other processes, which by default would make it of its text."""
        return type(self), (self.outcomes,)


def a_key() -> str:
    """An idempotency key that nobody else has."""
    return uuid4().hex


def publish_many(publications: Iterable[Publish], limits: Limits) -> Steps[list[Position]]:
    return _publish_all(
        [to_json({"publish": each.to_body()}) for each in publications],
        lambda some: ("batch", b'{"commands":[%b]}' % b",".join(some)),
        _replies_of_batch,
        limits,
    )


def broadcast(channels: Iterable[str], shared: Publish, limits: Limits) -> Steps[list[Position]]:
    """
    Args:
        shared: What is published; its channel is none.
    """
    body = shared.to_body()
    del body["channel"]
    head = to_json(body)[:-1]
    return _publish_all(
        [to_json(channel) for channel in listed(channels)],
        lambda some: ("broadcast", b'%b,"channels":[%b]}' % (head, b",".join(some))),
        lambda answer: list(result_in(answer)["responses"]),
        limits,
    )


def _publish_all(
    items: Sequence[bytes],
    request_for: Callable[[Sequence[bytes]], tuple[str, bytes]],
    replies_in: Callable[[Answer], list[Answer]],
    limits: Limits,
) -> Steps[list[Position]]:
    """Send one request after the other, each with a deadline of its own; see `ask_for_each`.

    Raises:
        HubbubError: not all were published.
    """
    outcomes: list[Position | HubbubError] = []
    around_bytes = len(request_for([])[1])
    for batch in _batches(items, limits, around_bytes=around_bytes):
        attempts = Attempts(limits)
        outcomes += yield from ask_for_each(batch, request_for, replies_in, Position.read, attempts)
        last = outcomes[-1]
        if isinstance(last, Unauthorized | Unavailable | UnexpectedAnswer):
            outcomes += [last] * (len(items) - len(outcomes))  # all others would fail, too
            break
    return positions_of(outcomes)


def positions_of(outcomes: Sequence[Position | HubbubError]) -> list[Position]:
    """
    Raises:
        HubbubError: not all were published.
    """
    positions = [each for each in outcomes if isinstance(each, Position)]
    if len(positions) == len(outcomes):
        return positions
    first = outcomes[0]
    if isinstance(first, HubbubError) and all(each is first for each in outcomes):
        raise first
    raise PartlyPublished(outcomes)


def _batches(
    items: Sequence[bytes], limits: Limits, *, around_bytes: int
) -> Iterator[Sequence[bytes]]:
    """As many at once as the limits allow, but at least one."""
    begin, size = 0, around_bytes
    for end, item in enumerate(items):
        is_full = end - begin == limits.max_batch or size + len(item) > limits.max_body_bytes
        if is_full and end > begin:
            yield items[begin:end]
            begin, size = end, around_bytes
        size += len(item) + 1  # and a comma
    if begin < len(items):
        yield items[begin:]


def _replies_of_batch(answer: Answer) -> list[Answer]:
    if "error" in answer:
        result_in(answer)
    return [
        {"result": reply["publish"]} if "publish" in reply else reply for reply in answer["replies"]
    ]
