"""Bodies of requests and answers."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from hubbub_client.contracts.ids import JsonUserId

T = TypeVar("T")


def _without_nul(text: str) -> str:
    if "\0" in text:  # PostgreSQL can't store it
        raise ValueError("must not contain a NUL character")
    return text


# Pydantic's `str` itself refuses lone surrogates, which can't be UTF-8.
_NoNul = AfterValidator(_without_nul)
Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _NoNul
]
Body = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000), _NoNul
]
CommentBody = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000), _NoNul
]


class NewPost(BaseModel):
    """``POST /posts``."""

    title: Title
    body: Body


class PostEdit(BaseModel):
    """``PATCH /posts/{id}``: what is left out stays as it is, and is empty here."""

    # Factories, since a document that names a default must allow it.
    title: Title = Field(default_factory=str)
    body: Body = Field(default_factory=str)


class NewComment(BaseModel):
    """``POST /posts/{id}/comments``."""

    body: CommentBody


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Post(_Answer):
    """A post as the asking user sees it."""

    id: int
    title: str
    body: str
    author_id: JsonUserId
    author_name: str
    like_count: int
    comment_count: int
    liked: bool
    """Whether the asking user likes it."""
    created_at: datetime


class Comment(_Answer):
    """A comment on a post."""

    id: int
    post_id: int
    body: str
    author_id: JsonUserId
    author_name: str
    created_at: datetime


class LikeState(_Answer):
    """The answer to liking and unliking."""

    liked: bool
    like_count: int


class Page(BaseModel, Generic[T]):
    """One page of a list; ``next_cursor`` is None on the last."""

    items: list[T]
    next_cursor: str | None
