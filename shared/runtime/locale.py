"""Reading arguments and environment variables as UTF-8, whatever the locale is."""

import os


def as_utf8(text: str) -> str:
    """Decode as UTF-8 what the locale could not decode; Python keeps such bytes as surrogates.

    Raises:
        UnicodeDecodeError: it is not UTF-8 either.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode()
    return text
