"""What can go wrong with posts, as callers see it."""

from typing import ClassVar

from hubbub_client.contracts.errors import AppError, ErrorKind


class PostNotFound(AppError):
    """No post has this id: it was deleted, or never existed."""

    kind: ClassVar[ErrorKind] = ErrorKind.NOT_FOUND
    code: ClassVar[str] = "post_not_found"

    def __init__(self) -> None:
        super().__init__("there is no such post")


class NotTheAuthor(AppError):
    """Somebody else's post."""

    kind: ClassVar[ErrorKind] = ErrorKind.FORBIDDEN
    code: ClassVar[str] = "not_the_author"

    def __init__(self) -> None:
        super().__init__("only its author may change a post")
