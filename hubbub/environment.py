"""The environment as a whole, for children and for the check of names."""

import os


def inherited_environment() -> dict[str, str]:
    """A copy of it, to pass on: a child needs PATH, HOME and the operator's settings."""
    return dict(os.environ)  # noqa: TID251 passed on, never read for a value
