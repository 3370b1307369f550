"""From which pages browsers may talk to us: a browser says in `Origin` whose page asks.

Other clients say nothing there, or what they like: what anybody may do is said by tokens.
"""

import re
import time
from collections.abc import Callable

import structlog

from shared.web.addresses import is_loopback

log = structlog.get_logger(__name__)

PREFLIGHT_SECONDS = 300
"""For which a browser remembers what it was allowed."""

_LINES_A_SECOND = 5
_MAX_TOLD = 200
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PATTERN = re.compile(r"\*|null|[a-z*][a-z0-9+.*-]*://[^/?#\s]+")


class Origins:
    """Which origins may, for a request to which host."""

    def __init__(self, allowed: str = "", *, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            allowed: Origins with commas between; `*` in one stands for any characters, and alone
                for any origin. Without any, a page is to come from the host that it asks; or both
                are to be this machine, as while somebody develops a page.
        """
        patterns = [each.strip().lower() for each in allowed.split(",") if each.strip()]
        for pattern in patterns:
            if _PATTERN.fullmatch(pattern) is None:
                raise ValueError(f"{pattern!r} is no origin: scheme://host or scheme://host:port")
        self._allowed = [_compiled(each) for each in patterns]
        self._now = now
        self._second = 0
        self._lines = 0
        self._untold = 0

    def allows(self, origin: str, host: str) -> bool:
        """
        Args:
            host: The request's `Host`.
        """
        origin = origin.lower()
        if self._allowed:
            return any(each.fullmatch(origin) for each in self._allowed)
        scheme, _, authority = origin.partition("://")
        port = _DEFAULT_PORTS.get(scheme)
        if port is None:
            return False
        theirs, ours = _split(authority, port), _split(host.lower(), port)
        return theirs == ours or (_is_loopback(theirs[0]) and _is_loopback(ours[0]))

    def admit(self, origin: str, host: str, path: str) -> bool:
        """Say what `allows` says; and tell the log of who is refused."""
        if self.allows(origin, host):
            return True
        second = int(self._now())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            log.warning(
                "origin_refused",
                origin=origin[:_MAX_TOLD],
                host=host[:_MAX_TOLD],
                path=path[:_MAX_TOLD],
                untold=self._untold,
            )
            self._untold = 0
        else:
            self._untold += 1
        return False


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern == "*":
        return re.compile(".*", re.DOTALL)
    return re.compile(re.escape(pattern).replace(r"\*", "[^/]*"))


def _split(authority: str, default_port: str) -> tuple[str, str]:
    """Host and port; an IPv6 address has its brackets."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return authority, default_port
    return host, port or default_port


def _is_loopback(host: str) -> bool:
    return host.endswith(".localhost") or is_loopback(host.removeprefix("[").removesuffix("]"))
