"""What publications look like on the wire, made once for all who come back and miss the same."""

from collections.abc import Callable, Hashable, Sequence

from gateway.streams.brief_cache import BriefCache, CacheLimits
from hubbub_client.contracts.publications import StoredPublication

_OVERHEAD_BYTES = 300
"""Of one in memory, beside its bytes."""

_Key = tuple[Hashable, int, int, str]


class Encodings:
    """Kept for some seconds after the last use."""

    def __init__(self, limits: CacheLimits | None = None) -> None:
        self._cache = BriefCache[_Key, bytes](limits or CacheLimits())

    def of(
        self,
        kind: Hashable,
        publications: Sequence[StoredPublication],
        encode: Callable[[], bytes],
    ) -> bytes:
        """Encode publications, or give what was made of the same ones.

        Args:
            kind: How they are encoded: equal ones are encoded alike.
            publications: At least one, and all that their channel has between the first and the
                last. So these two tell which they are.
        """
        first, last = publications[0], publications[-1]
        key = (kind, first.offset, last.offset, last.time)  # an offset may be given a second time
        encoded = self._cache.get(key)
        if encoded is None:
            encoded = encode()
            self._cache.put(key, encoded, len(encoded) + _OVERHEAD_BYTES)
        return encoded
