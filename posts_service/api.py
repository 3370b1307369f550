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
from shared.contracts.ids import PostId
from shared.sql.database import Sessions, transaction_dependency
from shared.tokens.access_tokens import Claims
from shared.web.user_rates import UserRates


def known_post_id(post_id: int) -> PostId:
    """The id in the path; a number that no row can have is a post that isn't there."""
    if not 1 <= post_id <= MAX_ID:
        raise PostNotFound
    return PostId(post_id)


AskedPost = Annotated[PostId, Depends(known_post_id)]
Limit = Annotated[int, Query(ge=1, le=100)]
DEFAULT_LIMIT = 20
Authenticated = Callable[..., Awaitable[Claims]]

# What a request costs of its user's bucket.
READ_UNITS = 1
"""And one more for each further `ITEMS_A_UNIT` that a list is asked for."""
WRITE_UNITS = 5
ITEMS_A_UNIT = 5


def paying(authenticated: Authenticated, rates: UserRates, units: int) -> Authenticated:
    """The dependency that says who is asking, and takes the units out of their bucket."""

    async def asker(claims: Annotated[Claims, Depends(authenticated)]) -> Claims:
        rates.charge(claims.user_id, units)
        return claims

    return asker


def paying_by_item(authenticated: Authenticated, rates: UserRates) -> Authenticated:
    """The same for a list, which costs by how much of it is asked for."""

    async def asker(
        claims: Annotated[Claims, Depends(authenticated)], limit: Limit = DEFAULT_LIMIT
    ) -> Claims:
        rates.charge(claims.user_id, READ_UNITS + limit // ITEMS_A_UNIT)
        return claims

    return asker


def create_router(
    sessions: Sessions,
    authenticated: Authenticated,
    rates: UserRates,
    *,
    like_notice_interval: timedelta,
) -> APIRouter:
    """All routes, with their full paths.

    Args:
        authenticated: The dependency that says who is asking, or refuses.
        rates: How much each of them may ask for.
        like_notice_interval: An author is told of the same user's like once in this time.
    """
    router = APIRouter()
    # Types, made here because what they depend on is. The scope commits before the answer.
    Reader = Annotated[Claims, Depends(paying(authenticated, rates, READ_UNITS))]  # noqa: N806
    Lister = Annotated[Claims, Depends(paying_by_item(authenticated, rates))]  # noqa: N806
    Writer = Annotated[Claims, Depends(paying(authenticated, rates, WRITE_UNITS))]  # noqa: N806
    Writing = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions), scope="function")
    ]
    Reading = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions, read_only=True), scope="function")
    ]

    @router.post("/posts", status_code=201, tags=["posts"])
    async def create_post(asker: Writer, new: NewPost, session: Writing) -> Post:
        seen = await use_cases.create_post(session, asker, title=new.title, body=new.body)
        return _shown(seen)

    @router.get("/posts", tags=["posts"])
    async def list_posts(
        asker: Lister, session: Reading, cursor: str | None = None, limit: Limit = DEFAULT_LIMIT
    ) -> Page[Post]:
        before_id = None if cursor is None else decode_cursor("posts", cursor)
        posts = await repository.posts_before(session, before_id, asker.user_id, limit=limit + 1)
        return _page("posts", [_shown(post) for post in posts], limit)

    @router.get("/posts/{post_id}", tags=["posts"])
    async def read_post(asker: Reader, post_id: AskedPost, session: Reading) -> Post:
        return _shown(await use_cases.read_post(session, post_id, asker))

    @router.patch("/posts/{post_id}", tags=["posts"])
    async def edit_post(
        asker: Writer, post_id: AskedPost, edit: PostEdit, session: Writing
    ) -> Post:
        seen = await use_cases.edit_post(session, post_id, asker, title=edit.title, body=edit.body)
        return _shown(seen)

    @router.delete("/posts/{post_id}", status_code=204, tags=["posts"])
    async def delete_post(asker: Writer, post_id: AskedPost, session: Writing) -> None:
        await use_cases.delete_post(session, post_id, asker)

    @router.post("/posts/{post_id}/like", tags=["likes"])
    async def toggle_like(asker: Writer, post_id: AskedPost, session: Writing) -> LikeState:
        state = await use_cases.toggle_like(
            session, post_id, asker, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.put("/posts/{post_id}/like", tags=["likes"])
    async def like_post(asker: Writer, post_id: AskedPost, session: Writing) -> LikeState:
        state = await use_cases.like_post(
            session, post_id, asker, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.delete("/posts/{post_id}/like", tags=["likes"])
    async def unlike_post(asker: Writer, post_id: AskedPost, session: Writing) -> LikeState:
        return LikeState.model_validate(await use_cases.unlike_post(session, post_id, asker))

    @router.post("/posts/{post_id}/comments", status_code=201, tags=["comments"])
    async def add_comment(
        asker: Writer, post_id: AskedPost, new: NewComment, session: Writing
    ) -> Comment:
        comment = await use_cases.add_comment(session, post_id, asker, body=new.body)
        return Comment.model_validate(comment)

    @router.get("/posts/{post_id}/comments", tags=["comments"])
    async def list_comments(
        _asker: Lister,
        post_id: AskedPost,
        session: Reading,
        cursor: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
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
