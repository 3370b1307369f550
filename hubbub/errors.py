"""The error that the command line shows in one line."""

from click import ClickException


class CommandFailed(ClickException):
    """The command can't continue; ``str`` is the message for the user, without secrets."""
