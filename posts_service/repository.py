"""Every SQL statement of the posts service.

A change of a post, its likes or its comments needs the post's row locked first (`lock_post`),
until the commit. So the outbox rows of one post are numbered in the order of their commits, and
what the transaction has read stays true.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from hubbub_client.contracts.ids import PostId, UserId
from posts_service.tables import CommentRow, LikeNoticeRow, LikeRow, PostRow


class SeenPost(NamedTuple):
    """A post, and whether its reader likes it."""

    post: PostRow
    liked: bool


async def add_post(session: AsyncSession, post: PostRow) -> None:
    """Insert the post, which gets its id."""
    session.add(post)
    await session.flush()


async def lock_post(session: AsyncSession, post_id: PostId) -> PostRow | None:
    """Read the post and lock it until commit; on SQLite the transaction itself is the lock."""
    found = select(PostRow).where(PostRow.id == post_id).with_for_update()
    return await session.scalar(found)


async def find_post(session: AsyncSession, post_id: PostId, reader_id: UserId) -> SeenPost | None:
    found = (await session.execute(_seen_by(reader_id).where(PostRow.id == post_id))).first()
    if found is None:
        return None
    post, liked = found
    return SeenPost(post, liked)


async def post_exists(session: AsyncSession, post_id: PostId) -> bool:
    return await session.scalar(select(PostRow.id).where(PostRow.id == post_id)) is not None


async def posts_before(
    session: AsyncSession, before_id: int | None, reader_id: UserId, *, limit: int
) -> list[SeenPost]:
    """Newest first, below ``before_id`` by the primary key; from the newest if it is None."""
    posts = _seen_by(reader_id).order_by(PostRow.id.desc()).limit(limit)
    if before_id is not None:
        posts = posts.where(PostRow.id < before_id)
    return [SeenPost(post, liked) for post, liked in await session.execute(posts)]


def _seen_by(reader_id: UserId) -> Select[PostRow, bool]:
    liked = exists().where(LikeRow.post_id == PostRow.id, LikeRow.user_id == reader_id)
    return select(PostRow, liked)


async def delete_post(session: AsyncSession, post: PostRow) -> None:
    """Its likes and comments go with it, by their foreign keys."""
    await session.execute(delete(PostRow).where(PostRow.id == post.id))


async def is_liked(session: AsyncSession, post: PostRow, user_id: UserId) -> bool:
    return await session.get(LikeRow, (post.id, user_id)) is not None


async def add_like(session: AsyncSession, post: PostRow, user_id: UserId) -> None:
    """Insert and count it, for a locked post that the user doesn't like yet."""
    session.add(LikeRow(post_id=post.id, user_id=user_id))
    post.like_count += 1
    await session.flush()


async def remove_like(session: AsyncSession, post: PostRow, user_id: UserId) -> None:
    """Delete it and count it, for a locked post that the user likes."""
    mine = delete(LikeRow).where(LikeRow.post_id == post.id, LikeRow.user_id == user_id)
    await session.execute(mine)
    post.like_count -= 1
    await session.flush()


async def claim_like_notice(
    session: AsyncSession, post: PostRow, liker_id: UserId, *, now: datetime, not_since: datetime
) -> bool:
    """Note that the author of a locked post is notified of this like now.

    Returns:
        False, with nothing noted, if the author was notified after ``not_since``. A time as far
        in the future came from a wrong clock, and does not count.
    """
    notice = await session.get(LikeNoticeRow, (post.id, liker_id))
    if notice is None:
        session.add(LikeNoticeRow(post_id=post.id, user_id=liker_id, notified_at=now))
        return True
    if not_since < notice.notified_at < now + (now - not_since):
        return False
    notice.notified_at = now
    return True


async def add_comment(session: AsyncSession, post: PostRow, comment: CommentRow) -> None:
    """Insert the comment, which gets its id, and count it, for a locked post."""
    session.add(comment)
    post.comment_count += 1
    await session.flush()


async def comments_after(
    session: AsyncSession, post_id: PostId, after_id: int, *, limit: int
) -> list[CommentRow]:
    """Oldest first, above ``after_id``, along the index of post and id."""
    comments = (
        select(CommentRow)
        .where(CommentRow.post_id == post_id, CommentRow.id > after_id)
        .order_by(CommentRow.id)
        .limit(limit)
    )
    return list(await session.scalars(comments))
