"""The events that the posts service tells, in absolute terms: hearing one twice is harmless."""

from pydantic import BaseModel

from hubbub_client.contracts.ids import JsonUserId


class PostEvent(BaseModel):
    post_id: int


class PostCreated(PostEvent):
    title: str
    author_id: JsonUserId
    author_name: str


class PostEdited(PostEvent):
    title: str


class PostDeleted(PostEvent):
    pass


class PostLiked(PostEvent):
    post_title: str
    liked_by: str
    like_count: int


class PostUnliked(PostEvent):
    like_count: int


class PostCommented(PostEvent):
    post_title: str
    comment_id: int
    commented_by: str
    comment_count: int
