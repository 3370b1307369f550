"""What the command line tells its user in one line."""


class CommandFailed(Exception):
    """The command can't go on; ``str`` is the sentence for whoever typed it, without secrets."""
