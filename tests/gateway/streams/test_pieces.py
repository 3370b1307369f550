"""What is known of a channel is exactly what was read of it."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.pieces import Piece, Pieces
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication

CHANNEL = ChannelName("chat:a")
END = 40
OFFSETS = st.lists(st.integers(1, END), unique=True).map(sorted)
SPANS = st.lists(
    st.tuples(st.integers(0, END - 1), st.integers(1, END)).filter(lambda span: span[0] < span[1])
)


def publications(offsets: list[int], after: int, up_to: int) -> list[StoredPublication]:
    return [StoredPublication(each, CHANNEL, b"x") for each in offsets if after < each <= up_to]


def read(offsets: list[int], after: int, through: int) -> Piece:
    return Piece(after, through, publications(offsets, after, through))


@given(offsets=OFFSETS, spans=SPANS, after=st.integers(0, END - 1), up_to=st.integers(1, END))
def test_a_page_has_no_hole_and_ends_where_nothing_was_read(
    offsets: list[int], spans: list[tuple[int, int]], after: int, up_to: int
) -> None:
    pieces = Pieces()
    for span in spans:
        pieces.add(read(offsets, *span))
    seen = {offset for begin, end in spans for offset in range(begin + 1, end + 1)}
    end = after
    while end + 1 in seen:
        end += 1

    page = pieces.page(after, up_to) if after < up_to else None

    if after < up_to and end > after:
        assert page is not None
        assert page.through == min(end, up_to)
        assert page.publications == publications(offsets, after, page.through)
    else:
        assert page is None
    assert pieces.end == max((end for _, end in spans), default=0)


@given(offsets=OFFSETS, spans=SPANS, count=st.integers(1, 5))
def test_the_last_ones_are_known_if_enough_were_read_without_a_hole(
    offsets: list[int], spans: list[tuple[int, int]], count: int
) -> None:
    pieces = Pieces()
    for span in spans:
        pieces.add(read(offsets, *span))

    found = pieces.last(count, up_to=END)

    last = publications(offsets, 0, END)[-count:]
    if found is not None:
        assert found == last
    elif len(last) == count:
        assert not any(begin < last[0].offset and end == END for begin, end in spans)


def test_what_is_known_to_be_the_first_counts_as_all_there_is() -> None:
    pieces = Pieces()
    pieces.add(Piece(0, 10, publications([3, 5], 0, 10), is_first=True))

    assert [each.offset for each in pieces.last(5, up_to=10) or []] == [3, 5]
    assert [each.offset for each in pieces.last(1, up_to=4) or []] == [3]
    assert pieces.last(1, up_to=11) is None
