"""How many files, and so sockets, this process may have open."""

import resource


def allow_open_files() -> int | None:
    """Raise the limit as far as the system lets us; return it, or None if there is none.

    A shell sets 1,024, for old programs that use ``select``; the hard limit is mostly far higher.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # macOS reports no limit, and refuses to set that
            return _limit(soft)
    return _limit(hard)


def open_files_limit() -> int | None:
    """The limit as it is; None if there is none."""
    return _limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit(number: int) -> int | None:
    return None if number == resource.RLIM_INFINITY else number
