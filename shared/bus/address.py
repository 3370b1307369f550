"""Where a bus is said to be, as it may be shown: without who signs in there."""

import re

_USER_INFO = re.compile(r"(^|,)(\w+://)?(?:(?!,\w+://).)*@", re.DOTALL)


class BadAddress(ValueError):
    """No bus can be there, whatever comes: the process must not start. Holds no password."""


def without_passwords(url: str) -> str:
    """The URL, or several with commas between them, as far as it is no secret.

    It need not be well-formed: rather a host is lost than a piece of a password shown.
    """
    return _USER_INFO.sub(r"\1\2", url)
