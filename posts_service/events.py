"""The events that the posts service tells, in absolute terms: hearing one twice is harmless."""

from pydantic import BaseModel

from hubbub_client.contracts.ids import JsonUserId


class PostEvent(BaseModel):
    post_id: int


class PostCreated(PostEvent):
    """A post was written."""

    title: str
    author_id: JsonUserId
    author_name: str


class PostEdited(PostEvent):
    """A post has another title, or another text."""

    title: str


class PostDeleted(PostEvent):
    """A post is gone, with its likes and comments."""


class PostLiked(PostEvent):
    """Somebody likes a post; its author is notified."""

    post_title: str
    liked_by: str
    like_count: int


class PostUnliked(PostEvent):
    """Somebody likes a post no more."""

    like_count: int


class PostCommented(PostEvent):
    """Somebody wrote a comment; the post's author is notified."""

    post_title: str
    comment_id: int
    commented_by: str
    comment_count: int


EVENTS = (PostCreated, PostEdited, PostDeleted, PostLiked, PostUnliked, PostCommented)
NOTIFIED = (PostLiked, PostCommented)
"""Of which a user is notified, in the personal channel."""
