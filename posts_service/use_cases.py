"""What the posts service does, one function each; the routes open and commit the transaction."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from hubbub_client.contracts.channels import post_channel, room_channel
from hubbub_client.contracts.ids import PostId, UserId
from hubbub_client.outbox.append import Message, add_message
from posts_service import repository
from posts_service.errors import NotTheAuthor, PostNotFound
from posts_service.events import (
    PostCommented,
    PostCreated,
    PostDeleted,
    PostEdited,
    PostEvent,
    PostLiked,
    PostUnliked,
)
from posts_service.repository import SeenPost
from posts_service.tables import CommentRow, PostRow
from shared.tokens.claims import Claims
from shared.web.request_context import current_traceparent

FEED = room_channel("feed")
"""The room with live changes of the list of posts."""


class LikeState(NamedTuple):
    """Whether one user likes the post, and how many do."""

    liked: bool
    like_count: int


async def create_post(session: AsyncSession, author: Claims, *, title: str, body: str) -> SeenPost:
    post = PostRow(
        author_id=author.user_id,
        author_name=author.name,
        title=title,
        body=body,
        created_at=datetime.now(UTC),
    )
    await repository.add_post(session, post)
    created = PostCreated(
        post_id=post.id, title=title, author_id=author.user_id, author_name=author.name
    )
    _tell(session, created)
    return SeenPost(post, liked=False)


async def read_post(session: AsyncSession, post_id: PostId, reader: Claims) -> SeenPost:
    """
    Raises:
        PostNotFound: there is no such post.
    """
    found = await repository.find_post(session, post_id, reader.user_id)
    if found is None:
        raise PostNotFound
    return found


async def edit_post(
    session: AsyncSession, post_id: PostId, editor: Claims, *, title: str, body: str
) -> SeenPost:
    """Replace what is not empty.

    Raises:
        PostNotFound: there is no such post.
        NotTheAuthor: it is somebody else's.
    """
    post = await _own_post(session, post_id, editor)
    title, body = title or post.title, body or post.body
    if (title, body) != (post.title, post.body):
        post.title, post.body = title, body
        _tell(session, PostEdited(post_id=post.id, title=title))
    return SeenPost(post, await repository.is_liked(session, post, editor.user_id))


async def delete_post(session: AsyncSession, post_id: PostId, deleter: Claims) -> None:
    """Delete the post with its likes and comments.

    Raises:
        PostNotFound: there is no such post.
        NotTheAuthor: it is somebody else's.
    """
    post = await _own_post(session, post_id, deleter)
    _tell(session, PostDeleted(post_id=post.id))
    await repository.delete_post(session, post)


async def toggle_like(
    session: AsyncSession, post_id: PostId, liker: Claims, *, notice_interval: timedelta
) -> LikeState:
    """Like the post if the user doesn't, else take the like back.

    Raises:
        PostNotFound: there is no such post.
    """
    post = await _locked_post(session, post_id)
    if await repository.is_liked(session, post, liker.user_id):
        return await _unlike(session, post, liker)
    return await _like(session, post, liker, notice_interval)


async def like_post(
    session: AsyncSession, post_id: PostId, liker: Claims, *, notice_interval: timedelta
) -> LikeState:
    """Like the post; doing it twice changes nothing.

    Args:
        notice_interval: The author is notified of the same user's like once in this time.

    Raises:
        PostNotFound: there is no such post.
    """
    post = await _locked_post(session, post_id)
    if await repository.is_liked(session, post, liker.user_id):
        return LikeState(liked=True, like_count=post.like_count)
    return await _like(session, post, liker, notice_interval)


async def unlike_post(session: AsyncSession, post_id: PostId, liker: Claims) -> LikeState:
    """Take a like back; doing it twice changes nothing.

    Raises:
        PostNotFound: there is no such post.
    """
    post = await _locked_post(session, post_id)
    if not await repository.is_liked(session, post, liker.user_id):
        return LikeState(liked=False, like_count=post.like_count)
    return await _unlike(session, post, liker)


async def add_comment(
    session: AsyncSession, post_id: PostId, author: Claims, *, body: str
) -> CommentRow:
    """Comment on the post and notify its author, unless it is the author who comments.

    Raises:
        PostNotFound: there is no such post.
    """
    post = await _locked_post(session, post_id)
    comment = CommentRow(
        post_id=post.id,
        author_id=author.user_id,
        author_name=author.name,
        body=body,
        created_at=datetime.now(UTC),
    )
    await repository.add_comment(session, post, comment)
    commented = PostCommented(
        post_id=post.id,
        post_title=post.title,
        comment_id=comment.id,
        commented_by=author.name,
        comment_count=post.comment_count,
    )
    _tell(session, commented, [] if author.user_id == post.author_id else [post.author_id])
    return comment


async def list_comments(
    session: AsyncSession, post_id: PostId, *, after_id: int, limit: int
) -> list[CommentRow]:
    """
    Raises:
        PostNotFound: there is no such post.
    """
    if not await repository.post_exists(session, post_id):
        raise PostNotFound
    return await repository.comments_after(session, post_id, after_id, limit=limit)


async def _like(
    session: AsyncSession, post: PostRow, liker: Claims, notice_interval: timedelta
) -> LikeState:
    await repository.add_like(session, post, liker.user_id)
    recipients = []
    now = datetime.now(UTC)
    if liker.user_id != post.author_id and await repository.claim_like_notice(
        session, post, liker.user_id, now=now, not_since=now - notice_interval
    ):
        recipients.append(post.author_id)
    liked = PostLiked(
        post_id=post.id,
        post_title=post.title,
        liked_by=liker.name,
        like_count=post.like_count,
    )
    _tell(session, liked, recipients)
    return LikeState(liked=True, like_count=post.like_count)


async def _unlike(session: AsyncSession, post: PostRow, liker: Claims) -> LikeState:
    await repository.remove_like(session, post, liker.user_id)
    _tell(session, PostUnliked(post_id=post.id, like_count=post.like_count))
    return LikeState(liked=False, like_count=post.like_count)


async def _locked_post(session: AsyncSession, post_id: PostId) -> PostRow:
    post = await repository.lock_post(session, post_id)
    if post is None:
        raise PostNotFound
    return post


async def _own_post(session: AsyncSession, post_id: PostId, user: Claims) -> PostRow:
    post = await _locked_post(session, post_id)
    if post.author_id != user.user_id:
        raise NotTheAuthor
    return post


def _tell(session: AsyncSession, event: PostEvent, recipients: Sequence[UserId] = ()) -> None:
    """Add the event to the outbox, to be committed together with the change."""
    message = Message.of_event(
        event,
        recipients=recipients,
        channels=(post_channel(PostId(event.post_id)), FEED),
        service="posts",
        aggregate=f"post:{event.post_id}",
        traceparent=current_traceparent(),
    )
    add_message(session, message)
