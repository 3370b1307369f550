"""Files that are no code: in a checkout beside this package, in a wheel within it."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(path: str) -> Path:
    """The file or folder that is at ``path`` in a checkout."""
    in_wheel = _PACKAGE / "files" / path
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / path
