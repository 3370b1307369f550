"""Patches: what the SDK's own decoder makes of them, and how small they are."""

import json

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocols.centrifuge.fossil import create, patch_text

PIECES = st.sampled_from(
    [b"x" * 16, b"x" * 50, b"y", bytes(range(40)), "äöü€🎉 and more of it".encode(), b"\x80" * 20]
)
TEXTS = st.lists(PIECES | st.binary(max_size=40), max_size=30).map(b"".join)
"""Built of the same few pieces, so that one has much of another, here and there."""
WORDS = st.sampled_from(
    ["ä", "€€€€€", "🎉", "é", "plain words", "🎉🎊" * 9, "\u0080" * 20, '"\n\\']
)
UNICODE = st.lists(WORDS | st.text(max_size=9), max_size=30).map("".join)


def applied(source: bytes, patch: bytes) -> bytes:
    return bytes(apply_delta(source, patch))


@given(TEXTS, TEXTS)
def test_a_patch_makes_the_target_of_the_source(source: bytes, target: bytes) -> None:
    assert applied(source, create(source, target)) == target


@given(UNICODE, UNICODE)
@example("é" + "x" * 40, "©" + "x" * 40)  # the same last byte
@example("x" * 40 + "é", "x" * 40 + "è")  # the same first byte
def test_a_patch_of_texts_splits_no_code_point(before: str, after: str) -> None:
    source, target = before.encode(), after.encode()

    patch = create(source, target).decode()

    assert applied(source, patch.encode()) == target


@given(UNICODE, UNICODE)
def test_a_text_is_patched_only_if_that_is_smaller(before: str, after: str) -> None:
    patch = patch_text(before, after)

    if patch is None:
        assert len(create(before.encode(), after.encode())) >= len(after.encode())
    else:
        assert len(patch.encode()) < len(after.encode())
        assert applied(before.encode(), patch.encode()) == after.encode()
    assert patch_text(before.encode(), after.encode()) == patch


def test_the_patch_of_a_changed_number_is_as_the_protocol_shows_it() -> None:
    before, after = (f'{{"n":{n},"pad":"{"x" * 60}"}}' for n in (1, 2))

    assert patch_text(before, after) == '1C\n6:{"n":216@6,1jun~g;'


def test_two_distant_edits_cost_little_more_than_themselves() -> None:
    items = [{"id": id_, "name": f"item {id_}"} for id_ in range(1000)]
    before = json.dumps(items)
    items[10]["name"] = "the first edit"
    items[900]["name"] = "the second, which is longer"
    after = json.dumps(items)

    patch = patch_text(before, after)

    assert patch is not None
    assert len(patch) < 120
    assert applied(before.encode(), patch.encode()) == after.encode()


def test_what_moved_is_found() -> None:
    first, second = (json.dumps(list(range(start, start + 500))) for start in (0, 1000))

    patch = patch_text(first + second, second + first)

    assert patch is not None
    assert len(patch) < 60


@pytest.mark.parametrize("bad", [b"\xff" * 100, "\ud83d" * 100], ids=["bytes", "half pairs"])
def test_what_is_not_utf8_has_no_patch(bad: str | bytes) -> None:
    assert patch_text("x" * 100, bad) is None
    assert patch_text(bad, "x" * 100) is None


def test_equal_blocks_take_no_quadratic_time() -> None:
    """A comparison with each of them would take minutes."""
    size = 320_000
    source = b"x" * size
    target = (b"x" * 31 + b"y") * (size // 32)

    assert applied(source, create(source, target)) == target
