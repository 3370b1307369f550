import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posts_service.cursors import MAX_ID, BadCursor, decode_cursor, encode_cursor
from tests.posts_service.callers import a_post

Client = httpx2.AsyncClient
LIST_NAMES = st.sampled_from(["posts", "comments:1", "comments:12"])


@given(LIST_NAMES, st.integers(1, MAX_ID))
def test_a_cursor_survives_the_round_trip(list_name: str, last_id: int) -> None:
    assert decode_cursor(list_name, encode_cursor(list_name, last_id)) == last_id


@given(LIST_NAMES, st.text() | st.from_regex(r"[A-Za-z0-9_=-]+", fullmatch=True))
def test_any_text_is_a_cursor_of_ours_or_bad(list_name: str, text: str) -> None:
    try:
        last_id = decode_cursor(list_name, text)
    except BadCursor:
        return
    assert encode_cursor(list_name, last_id) == text


@given(LIST_NAMES, LIST_NAMES, st.integers(1, MAX_ID))
def test_no_list_takes_the_cursor_of_another(one: str, other: str, last_id: int) -> None:
    if one != other:
        with pytest.raises(BadCursor):
            decode_cursor(other, encode_cursor(one, last_id))


async def all_pages(client: Client, path: str, limit: int) -> list[list[int]]:
    """The ids of every page."""
    pages, cursor = [], None
    while True:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path, params=params)).json()
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


async def test_pages_of_posts_hold_all_of_them_newest_first(ada: Client) -> None:
    a, b, c, d = [await a_post(ada) for _ in range(4)]

    assert await all_pages(ada, "/posts", 3) == [[d, c, b], [a]]
    assert await all_pages(ada, "/posts", 2) == [[d, c], [b, a]]
    assert await all_pages(ada, "/posts", 4) == [[d, c, b, a]]


async def test_a_page_moves_neither_for_new_nor_for_deleted_posts(ada: Client) -> None:
    a, b, c, d = [await a_post(ada) for _ in range(4)]
    first = (await ada.get("/posts", params={"limit": 2})).json()
    await a_post(ada)
    await ada.delete(f"/posts/{c}")  # the one that the cursor names

    params = {"limit": 2, "cursor": first["next_cursor"]}
    second = (await ada.get("/posts", params=params)).json()

    assert [item["id"] for item in first["items"]] == [d, c]
    assert [item["id"] for item in second["items"]] == [b, a]
    assert second["next_cursor"] is None


async def test_a_list_says_what_its_reader_likes(ada: Client, grace: Client) -> None:
    liked, other = await a_post(ada), await a_post(ada)
    await grace.put(f"/posts/{liked}/like")

    def seen(answer: httpx2.Response) -> dict[int, tuple[bool, int]]:
        items = answer.json()["items"]
        return {item["id"]: (item["liked"], item["like_count"]) for item in items}

    assert seen(await grace.get("/posts")) == {liked: (True, 1), other: (False, 0)}
    assert seen(await ada.get("/posts")) == {liked: (False, 1), other: (False, 0)}


async def test_pages_of_comments_hold_the_posts_own_oldest_first(ada: Client) -> None:
    post_id, other_post_id = await a_post(ada), await a_post(ada)
    comments = []
    for number in range(3):
        for where in (post_id, other_post_id):
            answer = await ada.post(f"/posts/{where}/comments", json={"body": str(number)})
            if where == post_id:
                comments.append(answer.json()["id"])

    assert await all_pages(ada, f"/posts/{post_id}/comments", 2) == [comments[:2], comments[2:]]
    assert await all_pages(ada, f"/posts/{post_id}/comments", 3) == [comments]


async def test_a_page_has_20_items_unless_asked_otherwise(ada: Client) -> None:
    for _ in range(21):
        await a_post(ada)

    assert len((await ada.get("/posts")).json()["items"]) == 20


async def test_a_limit_outside_1_to_100_is_refused(ada: Client) -> None:
    post_id = await a_post(ada)

    for path in ("/posts", f"/posts/{post_id}/comments"):
        for limit in ("0", "-1", "101", "x", "", "1e9", str(2**70)):
            answer = await ada.get(path, params={"limit": limit})
            assert answer.status_code == 422, limit
            assert [each["where"] for each in answer.json()["errors"]] == [["query", "limit"]]
        for limit in ("1", "100"):
            assert (await ada.get(path, params={"limit": limit})).status_code == 200, limit


async def test_a_cursor_that_is_not_ours_is_refused(ada: Client) -> None:
    post_id = await a_post(ada)

    for path in ("/posts", f"/posts/{post_id}/comments"):
        for cursor in (
            "",
            "1",
            "%%%",
            "\0",
            "é",
            "x" * 5000,
            encode_cursor("posts", 7) + "=",
            encode_cursor("comments:2", 7),
            encode_cursor("posts", 0),
            encode_cursor("posts", MAX_ID + 1),
            encode_cursor("posts", -1),
        ):
            answer = await ada.get(path, params={"cursor": cursor})
            assert answer.status_code == 422, cursor
            assert answer.json()["code"] == "bad_cursor"
