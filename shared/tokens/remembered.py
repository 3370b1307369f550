"""Tokens that were seen before, and what was found out about them."""

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")

_DIGEST_BYTES = 15  # far more than anybody can find a second token for; with 16 it takes 16 more


class RememberedTokens(Generic[V]):
    """What was found out about the tokens seen last, by their digests: never the tokens.

    About 0.15 KiB each, and what was found out. What is given back was true when it was put
    in; whether it still is has to be asked.
    """

    def __init__(self, capacity: int) -> None:
        """Of more than ``capacity`` the one goes that was not seen for longest; 0 keeps none."""
        self._capacity = capacity
        self._found: OrderedDict[bytes, V] = OrderedDict()  # a dict grows slow at its front

    def __len__(self) -> int:
        return len(self._found)

    def get(self, token: str) -> V | None:
        digest = _digest(token)
        found = self._found.get(digest)
        if found is not None:
            self._found.move_to_end(digest)
        return found

    def put(self, token: str, found: V) -> None:
        digest = _digest(token)
        self._found[digest] = found
        self._found.move_to_end(digest)
        if len(self._found) > self._capacity:
            self._found.popitem(last=False)

    def drop(self, token: str) -> None:
        """Forget it; harmless if it isn't there."""
        self._found.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]
