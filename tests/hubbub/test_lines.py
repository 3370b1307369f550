import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.lines import LineSplitter, lines_of

MAX_BYTES = 5


@given(st.lists(st.binary().map(lambda chunk: chunk.replace(b"x", b"\n"))))
def test_however_the_bytes_are_cut_the_lines_are_the_same(chunks: list[bytes]) -> None:
    splitter = LineSplitter(max_line_bytes=MAX_BYTES)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    lines += splitter.end()

    text = b"".join(chunks)
    expected = text.removesuffix(b"\n").split(b"\n") if text else []
    assert lines == [line if len(line) <= MAX_BYTES else None for line in expected]


async def test_a_line_is_there_before_the_input_ends() -> None:
    read_end, write_end = os.pipe()
    lines = lines_of(read_end)
    with anyio.fail_after(10):
        os.write(write_end, b"first\nsec")
        assert await anext(lines) == b"first"

        os.write(write_end, b"ond")
        os.close(write_end)
        assert [line async for line in lines] == [b"second"]
    os.close(read_end)


async def test_an_input_that_cannot_be_read_is_not_taken_for_its_end(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)  # which is opened, and refuses to be read

    with anyio.fail_after(10), pytest.raises(IsADirectoryError):
        _ = [line async for line in lines_of(folder)]
    os.close(folder)
