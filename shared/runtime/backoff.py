"""Exponential backoff between restarts."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """Pauses that double up to a limit, and begin anew after a steady run."""

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    steady_seconds: float = 10.0
    """A run of this length was steady."""
    _next_seconds: float = 0.0

    def pause_after(self, ran_seconds: float) -> float:
        """Seconds to wait now, after a run of that length."""
        if ran_seconds >= self.steady_seconds or not self._next_seconds:
            self._next_seconds = self.first_seconds
        pause = self._next_seconds
        self._next_seconds = min(2 * pause, self.longest_seconds)
        return pause
