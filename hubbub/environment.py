"""The environment as a whole: what children inherit, and names in it that nobody reads."""

import os


def inherited_environment() -> dict[str, str]:
    """A copy of it, to hand on: a child needs PATH, HOME and the operator's settings."""
    return dict(os.environ)  # noqa: TID251 handed on, never read for a value
