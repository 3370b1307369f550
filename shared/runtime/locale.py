"""Words of the command line and of the environment, whatever the locale is."""

import os


def as_utf8(text: str) -> str:
    """Read as UTF-8 what the locale could not read; Python keeps such bytes in disguise.

    Raises:
        UnicodeDecodeError: it is not in UTF-8 either.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode()
    return text
