"""What the command line tells its user in one line."""

from click import ClickException


class CommandFailed(ClickException):
    """The command can't go on; ``str`` is the sentence for whoever typed it, without secrets."""
