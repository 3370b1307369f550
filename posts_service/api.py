"""The routes of the posts service: parse, call one use case, answer."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from posts_service import repository, use_cases
from posts_service.cursors import MAX_ID, decode_cursor, encode_cursor
from posts_service.errors import PostNotFound
from posts_service.repository import SeenPost
from posts_service.schemas import Comment, LikeState, NewComment, NewPost, Page, Post, PostEdit
from shared.database import Sessions, transaction_dependency
from shared.ids import PostId
from shared.tokens import Claims


def known_post_id(post_id: int) -> PostId:
    """The id in the path; a number that no row can have is a post that isn't there."""
    if not 1 <= post_id <= MAX_ID:
        raise PostNotFound
    return PostId(post_id)


AskedPost = Annotated[PostId, Depends(known_post_id)]
Limit = Annotated[int, Query(ge=1, le=100)]


def create_router(
    sessions: Sessions,
    authenticated: Callable[..., Awaitable[Claims]],
    *,
    like_notice_interval: timedelta,
) -> APIRouter:
    """All routes, with their full paths.

    Args:
        authenticated: The dependency that says who is asking, or refuses.
        like_notice_interval: An author is told of the same user's like once in this time.
    """
    router = APIRouter()
    # Types, made here because what they depend on is. The scope commits before the answer.
    Asker = Annotated[Claims, Depends(authenticated)]  # noqa: N806
    Writing = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions), scope="function")
    ]
    Reading = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions, read_only=True), scope="function")
    ]

    @router.post("/posts", status_code=201, tags=["posts"])
    async def create_post(asker: Asker, new: NewPost, session: Writing) -> Post:
        seen = await use_cases.create_post(session, asker, title=new.title, body=new.body)
        return _shown(seen)

    @router.get("/posts", tags=["posts"])
    async def list_posts(
        asker: Asker, session: Reading, cursor: str | None = None, limit: Limit = 20
    ) -> Page[Post]:
        before_id = None if cursor is None else decode_cursor("posts", cursor)
        posts = await repository.posts_before(session, before_id, asker.user_id, limit=limit + 1)
        return _page("posts", [_shown(post) for post in posts], limit)

    @router.get("/posts/{post_id}", tags=["posts"])
    async def read_post(asker: Asker, post_id: AskedPost, session: Reading) -> Post:
        return _shown(await use_cases.read_post(session, post_id, asker))

    @router.patch("/posts/{post_id}", tags=["posts"])
    async def edit_post(asker: Asker, post_id: AskedPost, edit: PostEdit, session: Writing) -> Post:
        seen = await use_cases.edit_post(session, post_id, asker, title=edit.title, body=edit.body)
        return _shown(seen)

    @router.delete("/posts/{post_id}", status_code=204, tags=["posts"])
    async def delete_post(asker: Asker, post_id: AskedPost, session: Writing) -> None:
        await use_cases.delete_post(session, post_id, asker)

    @router.post("/posts/{post_id}/like", tags=["likes"])
    async def toggle_like(asker: Asker, post_id: AskedPost, session: Writing) -> LikeState:
        state = await use_cases.toggle_like(
            session, post_id, asker, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.put("/posts/{post_id}/like", tags=["likes"])
    async def like_post(asker: Asker, post_id: AskedPost, session: Writing) -> LikeState:
        state = await use_cases.like_post(
            session, post_id, asker, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.delete("/posts/{post_id}/like", tags=["likes"])
    async def unlike_post(asker: Asker, post_id: AskedPost, session: Writing) -> LikeState:
        return LikeState.model_validate(await use_cases.unlike_post(session, post_id, asker))

    @router.post("/posts/{post_id}/comments", status_code=201, tags=["comments"])
    async def add_comment(
        asker: Asker, post_id: AskedPost, new: NewComment, session: Writing
    ) -> Comment:
        comment = await use_cases.add_comment(session, post_id, asker, body=new.body)
        return Comment.model_validate(comment)

    @router.get("/posts/{post_id}/comments", tags=["comments"])
    async def list_comments(
        _asker: Asker,
        post_id: AskedPost,
        session: Reading,
        cursor: str | None = None,
        limit: Limit = 20,
    ) -> Page[Comment]:
        list_name = f"comments:{post_id}"
        after_id = 0 if cursor is None else decode_cursor(list_name, cursor)
        comments = await use_cases.list_comments(
            session, post_id, after_id=after_id, limit=limit + 1
        )
        return _page(list_name, [Comment.model_validate(comment) for comment in comments], limit)

    return router


def _shown(seen: SeenPost) -> Post:
    return Post(
        id=seen.post.id,
        title=seen.post.title,
        body=seen.post.body,
        author_id=seen.post.author_id,
        author_name=seen.post.author_name,
        like_count=seen.post.like_count,
        comment_count=seen.post.comment_count,
        liked=seen.liked,
        created_at=seen.post.created_at,
    )


Listed = TypeVar("Listed", Post, Comment)


def _page(list_name: str, found: list[Listed], limit: int) -> Page[Listed]:
    """Cut one more than asked for down to a page; that there was one more is a next page."""
    items = found[:limit]
    more = len(found) > limit
    return Page(items=items, next_cursor=encode_cursor(list_name, items[-1].id) if more else None)
