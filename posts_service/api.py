"""The routes of the posts service: parse, call one use case, answer."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from hubbub_client.contracts.ids import PostId
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction_dependency
from posts_service import repository, use_cases
from posts_service.cursors import MAX_ID, BadCursor, decode_cursor, encode_cursor
from posts_service.errors import NotTheAuthor, PostNotFound
from posts_service.repository import SeenPost
from posts_service.schemas import Comment, LikeState, NewComment, NewPost, Page, Post, PostEdit
from shared.tokens.authentication import REFUSALS
from shared.tokens.claims import Claims
from shared.web.openapi import Cause, problems
from shared.web.router import Router
from shared.web.user_rates import TooFast, UserRates


def valid_post_id(post_id: int) -> PostId:
    """The id in the path; a number that no row can have is an unknown post."""
    if not 1 <= post_id <= MAX_ID:
        raise PostNotFound
    return PostId(post_id)


PathPostId = Annotated[PostId, Depends(valid_post_id)]
Limit = Annotated[int, Query(ge=1, le=100)]
DEFAULT_LIMIT = 20
Authenticated = Callable[..., Awaitable[Claims]]

# What requests may be answered beside what they ask for; a path or a query may always not fit.
ALL: tuple[Cause, ...] = (*REFUSALS, TooFast, DatabaseUnavailable, 422)
OF_A_POST: tuple[Cause, ...] = (*ALL, PostNotFound)

# What a request takes from its user's bucket.
READ_UNITS = 1
"""A list takes one more for each `ITEMS_A_UNIT` of its limit."""
WRITE_UNITS = 5
ITEMS_A_UNIT = 5


def charging(authenticated: Authenticated, rates: UserRates, units: int) -> Authenticated:
    """The dependency that gives the caller's claims and takes the units from their bucket."""

    async def charged(claims: Annotated[Claims, Depends(authenticated)]) -> Claims:
        rates.charge(claims.user_id, units)
        return claims

    return charged


class Listing(NamedTuple):
    """Who asks for a page of a list, and how long it may be."""

    caller: Claims
    limit: int


def charging_by_item(
    authenticated: Authenticated, rates: UserRates
) -> Callable[..., Awaitable[Listing]]:
    """The same for a list, which costs more the longer it may be."""

    async def charged(
        claims: Annotated[Claims, Depends(authenticated)], limit: Limit = DEFAULT_LIMIT
    ) -> Listing:
        rates.charge(claims.user_id, READ_UNITS + limit // ITEMS_A_UNIT)
        return Listing(claims, limit)

    return charged


def create_router(
    sessions: Sessions,
    authenticated: Authenticated,
    rates: UserRates,
    *,
    like_notice_interval: timedelta,
) -> Router:
    """All routes, with their full paths.

    Args:
        authenticated: The dependency that gives the caller's claims, or refuses.
        rates: The rate limits of users.
        like_notice_interval: An author is notified of the same user's like once in this time.
    """
    router = Router()
    # Types that depend on the arguments. scope="function" commits before the answer is sent.
    Reader = Annotated[Claims, Depends(charging(authenticated, rates, READ_UNITS))]  # noqa: N806
    Asked = Annotated[Listing, Depends(charging_by_item(authenticated, rates))]  # noqa: N806
    Writer = Annotated[Claims, Depends(charging(authenticated, rates, WRITE_UNITS))]  # noqa: N806
    Writing = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions), scope="function")
    ]
    Reading = Annotated[  # noqa: N806
        AsyncSession, Depends(transaction_dependency(sessions, read_only=True), scope="function")
    ]

    @router.post("/posts", status_code=201, tags=["posts"], responses=problems(*ALL, 413))
    async def create_post(caller: Writer, new: NewPost, session: Writing) -> Post:
        seen = await use_cases.create_post(session, caller, title=new.title, body=new.body)
        return _shown(seen)

    @router.get("/posts", tags=["posts"], responses=problems(*ALL, BadCursor))
    async def list_posts(asked: Asked, session: Reading, cursor: str | None = None) -> Page[Post]:
        before_id = None if cursor is None else decode_cursor("posts", cursor)
        posts = await repository.posts_before(
            session, before_id, asked.caller.user_id, limit=asked.limit + 1
        )
        return _page("posts", [_shown(post) for post in posts], asked.limit)

    @router.get("/posts/{post_id}", tags=["posts"], responses=problems(*OF_A_POST))
    async def read_post(caller: Reader, post_id: PathPostId, session: Reading) -> Post:
        return _shown(await use_cases.read_post(session, post_id, caller))

    @router.patch(
        "/posts/{post_id}", tags=["posts"], responses=problems(*OF_A_POST, NotTheAuthor, 413)
    )
    async def edit_post(
        caller: Writer, post_id: PathPostId, edit: PostEdit, session: Writing
    ) -> Post:
        seen = await use_cases.edit_post(session, post_id, caller, title=edit.title, body=edit.body)
        return _shown(seen)

    @router.delete(
        "/posts/{post_id}",
        status_code=204,
        tags=["posts"],
        responses=problems(*OF_A_POST, NotTheAuthor),
    )
    async def delete_post(caller: Writer, post_id: PathPostId, session: Writing) -> None:
        await use_cases.delete_post(session, post_id, caller)

    @router.post("/posts/{post_id}/like", tags=["likes"], responses=problems(*OF_A_POST))
    async def toggle_like(caller: Writer, post_id: PathPostId, session: Writing) -> LikeState:
        state = await use_cases.toggle_like(
            session, post_id, caller, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.put("/posts/{post_id}/like", tags=["likes"], responses=problems(*OF_A_POST))
    async def like_post(caller: Writer, post_id: PathPostId, session: Writing) -> LikeState:
        state = await use_cases.like_post(
            session, post_id, caller, notice_interval=like_notice_interval
        )
        return LikeState.model_validate(state)

    @router.delete("/posts/{post_id}/like", tags=["likes"], responses=problems(*OF_A_POST))
    async def unlike_post(caller: Writer, post_id: PathPostId, session: Writing) -> LikeState:
        return LikeState.model_validate(await use_cases.unlike_post(session, post_id, caller))

    @router.post(
        "/posts/{post_id}/comments",
        status_code=201,
        tags=["comments"],
        responses=problems(*OF_A_POST, 413),
    )
    async def add_comment(
        caller: Writer, post_id: PathPostId, new: NewComment, session: Writing
    ) -> Comment:
        comment = await use_cases.add_comment(session, post_id, caller, body=new.body)
        return Comment.model_validate(comment)

    @router.get(
        "/posts/{post_id}/comments", tags=["comments"], responses=problems(*OF_A_POST, BadCursor)
    )
    async def list_comments(
        asked: Asked, post_id: PathPostId, session: Reading, cursor: str | None = None
    ) -> Page[Comment]:
        list_name = f"comments:{post_id}"
        after_id = 0 if cursor is None else decode_cursor(list_name, cursor)
        found = await use_cases.list_comments(
            session, post_id, after_id=after_id, limit=asked.limit + 1
        )
        comments = [Comment.model_validate(comment) for comment in found]
        return _page(list_name, comments, asked.limit)

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
    """Make a page of ``limit + 1`` found items: if there is one too many, there is a next page."""
    items = found[:limit]
    more = len(found) > limit
    return Page(items=items, next_cursor=encode_cursor(list_name, items[-1].id) if more else None)
