"""Which version of Hubbub runs."""

from functools import cache
from importlib.metadata import version


@cache  # the whole of the package's description is read for it
def running_version() -> str:
    return version("hubbub")
