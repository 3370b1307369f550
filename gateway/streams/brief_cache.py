"""A cache for a rush: what was used last stays for some seconds, within bounds."""

import asyncio
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How much is kept, and for how long."""

    keep_seconds: float = 10.0
    """After the last use."""
    max_bytes: int = 16 * 1024 * 1024
    max_count: int = 20_000


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    size: int
    used_at: float


class BriefCache(Generic[Key, Value]):
    """Values by key; nothing is left of it in a gateway that idles."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._entries: dict[Key, _Entry[Value]] = {}
        """Those that were used last come last."""
        self._bytes = 0
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        entry.used_at = time.monotonic()
        self._entries[key] = entry
        return entry.value

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep the value, or take note of its new size in bytes."""
        self._drop(key)
        self._entries[key] = _Entry(value, size, time.monotonic())
        self._bytes += size
        while self._bytes > self._limits.max_bytes or len(self) > self._limits.max_count:
            self._drop(next(iter(self._entries)))
        if self._sweep is None and self._entries:
            self._sweep_later()

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self._limits.keep_seconds, self._drop_unused)

    def _drop_unused(self) -> None:
        self._sweep = None
        unused_since = time.monotonic() - self._limits.keep_seconds
        for key, entry in list(self._entries.items()):
            if entry.used_at > unused_since:
                self._sweep_later()
                return
            self._drop(key)
