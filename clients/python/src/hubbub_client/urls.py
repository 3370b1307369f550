"""URLs as they may be shown, in logs and errors."""

import re

_USER_INFO = re.compile(r"(^|,)(\w+://)?(?:(?!,\w+://).)*@", re.DOTALL)


def without_passwords(url: str) -> str:
    """The URL, or several with commas between them, without user and password.

    Of a malformed URL rather too much is cut off than a piece of a password shown.
    """
    return _USER_INFO.sub(r"\1\2", url)
