"""What was used last stays, within bounds, and not for long."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.brief_cache import BriefCache, CacheLimits
from gateway.streams.encodings import Encodings
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from tests.fixtures.waiting import eventually


async def test_nothing_is_left_once_nobody_uses_it() -> None:
    cache = BriefCache[str, str](CacheLimits(keep_seconds=0.01))
    cache.put("a", "A", 1)
    cache.put("b", "B", 1)

    await eventually(lambda: len(cache) == 0)
    cache.put("c", "C", 1)
    await eventually(lambda: len(cache) == 0)


STEPS = st.lists(st.tuples(st.sampled_from("gp"), st.sampled_from("abcde"), st.integers(1, 6)))


@given(steps=STEPS)
async def test_those_that_were_used_last_are_within_the_bounds(
    steps: list[tuple[str, str, int]],
) -> None:
    cache = BriefCache[str, int](CacheLimits(max_bytes=10, max_count=3))
    model: dict[str, int] = {}
    for step, key, size in steps:
        if step == "p":
            cache.put(key, size, size)
            model.pop(key, None)
            model[key] = size
            while sum(model.values()) > 10 or len(model) > 3:
                del model[next(iter(model))]
        else:
            assert cache.get(key) == model.get(key)
            if key in model:
                model[key] = model.pop(key)
    assert len(cache) == len(model)


def publications(*offsets: int, time: str = "") -> list[StoredPublication]:
    return [StoredPublication(each, ChannelName("chat:a"), b"x", time) for each in offsets]


async def test_equal_publications_are_encoded_once_for_each_kind() -> None:
    encodings, made = Encodings(), list[str]()

    def of(kind: str, run: list[StoredPublication]) -> bytes:
        def encode() -> bytes:
            made.append(kind)
            return f"{kind}{len(made)}".encode()

        return encodings.of(kind, run, encode)

    assert [of("a", publications(3, 5)), of("a", publications(3, 5))] == [b"a1", b"a1"]
    assert of("b", publications(3, 5)) == b"b2"
    assert of("a", publications(5)) == b"a3"
    assert of("a", publications(3, 5, time="in another stream")) == b"a4"
