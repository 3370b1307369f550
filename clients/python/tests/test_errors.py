"""Errors pass from one process to another, as from a worker to who waits for it."""

import pickle

import pytest

from hubbub_client import HubbubError, PartlyPublished, Position, TooLarge, Unavailable
from hubbub_client.nats.errors import BusUnavailable, MessageRejected

OUTCOMES: list[Position | HubbubError] = [Position(1, "e"), TooLarge("70000 bytes")]


@pytest.mark.parametrize("error", [TooLarge("why"), Unavailable("why"), BusUnavailable("why")])
def test_an_error_says_the_same_in_another_process(error: Exception) -> None:
    there = pickle.loads(pickle.dumps(error))

    assert (type(there), str(there)) == (type(error), "why")


def test_what_was_partly_published_says_there_which() -> None:
    there = pickle.loads(pickle.dumps(PartlyPublished(OUTCOMES)))

    assert str(there) == "1 of 2 failed, the first so: 70000 bytes"
    assert there.outcomes[0] == OUTCOMES[0]
    assert type(there.outcomes[1]) is TooLarge


def test_what_the_bus_rejects_says_there_why() -> None:
    there = pickle.loads(pickle.dumps(MessageRejected(10054, "too long")))

    assert (there.err_code, there.description, str(there)) == (
        10054,
        "too long",
        "too long (10054)",
    )
