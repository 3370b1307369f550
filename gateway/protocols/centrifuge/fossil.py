"""Patches in the delta format of Fossil: what to copy of the text before, and what is new.

A patch is the length of the new text, a line feed, copies `length@offset,` and insertions
`length:bytes`, then the checksum of the new text and `;`. Numbers have base 64.
Source: https://fossil-scm.org/home/doc/tip/www/delta_format.wiki
"""

import struct
from collections.abc import Iterable, Iterator

_BLOCK = 16
"""Bytes. A copy is found by a whole block of the text before; of less it would save little."""
_MAX_CANDIDATES = 8
"""Of equal blocks only the first so many are tried, so that no text takes quadratic time."""
_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_MAX_CONTINUATION_BYTES = 3
"""Those of one code point in UTF-8."""


def patch_text(before: str | bytes, after: str | bytes) -> str | None:
    """The patch from one text to the next; None if it isn't smaller, or one isn't UTF-8."""
    try:
        target = _utf8(after)
        patch = create(_utf8(before), target)
    except UnicodeError:
        return None
    return patch.decode() if len(patch) < len(target) else None


def create(source: bytes, target: bytes) -> bytes:
    """The patch that makes `target` of `source`; of texts in UTF-8 it is UTF-8 too."""
    parts = [_number(len(target)), b"\n"]
    done = 0
    for start, end, offset in _copies(source, target):
        parts += _insertion(target[done:start])
        parts += (_number(end - start), b"@", _number(offset), b",")
        done = end
    parts += _insertion(target[done:])
    parts += (_number(_checksum(target)), b";")
    return b"".join(parts)


def _copies(source: bytes, target: bytes) -> Iterator[tuple[int, int, int]]:
    """`start, end, offset`: `target[start:end]` stands in the source too, at the offset.

    In the target's order, without overlap.
    """
    offsets = _offsets_of_blocks(source)
    done = at = shift = 0
    while at <= len(target) - _BLOCK:
        candidates = offsets.get(target[at : at + _BLOCK])
        if candidates is None:
            at += 1
            continue
        # Where the source would go on as it did last: most edits leave the length as it was.
        length, offset = _longest(source, (at + shift, *candidates), target, at)
        end = at + length
        while at > done and offset > 0 and source[offset - 1] == target[at - 1]:
            at -= 1
            offset -= 1
        # No insertion may begin or end within a code point.
        start = _next_code_point(target, at)
        offset += start - at
        shift = offset - start
        done = at = _last_code_point(target, end)
        yield start, done, offset


def _offsets_of_blocks(source: bytes) -> dict[bytes, list[int]]:
    """Where each whole block of the source stands, the first places of it."""
    offsets: dict[bytes, list[int]] = {}
    for offset in range(0, len(source) - _BLOCK + 1, _BLOCK):
        places = offsets.setdefault(source[offset : offset + _BLOCK], [])
        if len(places) < _MAX_CANDIDATES:
            places.append(offset)
    return offsets


def _longest(source: bytes, candidates: Iterable[int], target: bytes, at: int) -> tuple[int, int]:
    """The length and offset of the longest copy; no candidate needs to be one."""
    best, best_offset = 0, 0
    for offset in candidates:
        if target[at : at + best + 1] == source[offset : offset + best + 1]:
            best, best_offset = _common_length(source, offset, target, at), offset
    return best, best_offset


def _common_length(source: bytes, offset: int, target: bytes, at: int) -> int:
    """How many bytes are equal, in steps that grow as long as they are, then shrink."""
    limit = min(len(source) - offset, len(target) - at)
    length, step, grows = 0, _BLOCK, True
    while step:
        end = length + step
        if (
            end <= limit
            and source[offset + length : offset + end] == target[at + length : at + end]
        ):
            length = end
        else:
            grows = False
        step = step * 2 if grows else step // 2
    return length


def _next_code_point(text: bytes, at: int) -> int:
    """The first place from there on where a code point begins; the same one in what isn't UTF-8."""
    for place in range(at, min(at + _MAX_CONTINUATION_BYTES + 1, len(text))):
        if not _continues(text[place]):
            return place
    return at


def _last_code_point(text: bytes, at: int) -> int:
    """The last such place up to there; the end of the text is one too."""
    for place in range(at, max(at - _MAX_CONTINUATION_BYTES, 0) - 1, -1):
        if place == len(text) or not _continues(text[place]):
            return place
    return at


def _continues(byte: int) -> bool:
    """Whether it is a later byte of a code point."""
    return byte & 0b1100_0000 == 0b1000_0000


def _insertion(new: bytes) -> tuple[bytes, ...]:
    return (_number(len(new)), b":", new) if new else ()


def _number(value: int) -> bytes:
    digits = bytearray()
    while True:
        value, digit = divmod(value, 64)
        digits.append(_DIGITS[digit])
        if not value:
            return bytes(digits[::-1])


def _checksum(text: bytes) -> int:
    """The sum of its big-endian words of 32 bits, the last one filled up with zeros."""
    whole = text + bytes(-len(text) % 4)
    words: tuple[int, ...] = struct.unpack(f">{len(whole) // 4}I", whole)
    return sum(words) % 2**32


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode()
    text.decode()
    return text
