"""How long to wait before starting again what has died."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """Pauses that double up to a limit, and are short again after a steady life."""

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    steady_seconds: float = 10.0
    """What lived this long did not die of its start."""
    _next_seconds: float = 0.0

    def pause_after(self, lived_seconds: float) -> float:
        """Seconds to wait now, after a life of that length."""
        if lived_seconds >= self.steady_seconds or not self._next_seconds:
            self._next_seconds = self.first_seconds
        pause = self._next_seconds
        self._next_seconds = min(2 * pause, self.longest_seconds)
        return pause
