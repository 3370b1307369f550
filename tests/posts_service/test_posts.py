import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from fastapi import FastAPI

from hubbub_client.sql.database import Sessions
from posts_service.app import MAX_BODY_BYTES
from tests.posts_service.callers import a_client, a_post, events

Client = httpx2.AsyncClient

JSON = {"Content-Type": "application/json"}
SQL_LOOKING = "Robert'); DROP TABLE posts;-- %s {} \\ \" ' ? :id"

BAD_POSTS = [
    '{"title": "", "body": "World"}',
    '{"title": " \\n\\t\\u2003", "body": "World"}',
    '{"title": "Hello", "body": "   "}',
    '{"title": "Hello"}',
    '{"title": null, "body": "World"}',
    '{"title": 7, "body": "World"}',
    '{"title": ["Hello"], "body": "World"}',
    '{"title": "nul \\u0000 in it", "body": "World"}',
    '{"title": "Hello", "body": "half a pair \\ud83d"}',
    '{"title": "%s", "body": "World"}' % ("x" * 201),
    '{"title": "Hello", "body": "%s"}' % ("x" * 10_001),
    '["title", "body"]',
    '"title"',
    '{"title": ',
    "",
]


async def test_a_new_post_is_answered_whole(ada: Client) -> None:
    answer = await ada.post("/posts", json={"title": " Hello ", "body": "World\n"})

    assert answer.status_code == 201
    post = answer.json()
    created_at = datetime.fromisoformat(post.pop("created_at"))
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert post.pop("id") >= 1
    assert post == {
        "title": "Hello",
        "body": "World",
        "author_id": 1,
        "author_name": "Ada",
        "like_count": 0,
        "comment_count": 0,
        "liked": False,
    }


async def test_a_post_reads_as_it_was_answered(ada: Client, grace: Client) -> None:
    created = (await ada.post("/posts", json={"title": "Hello", "body": "World"})).json()

    read = await grace.get(f"/posts/{created['id']}")

    assert read.status_code == 200
    assert read.json() == created


async def test_a_text_is_kept_verbatim(ada: Client) -> None:
    for text in (SQL_LOOKING, "<script>alert(1)</script>", "日本語 🐝 ́", "a\nb"):
        post_id = await a_post(ada, title=text, body=text)
        comment = await ada.post(f"/posts/{post_id}/comments", json={"body": text})

        post = (await ada.get(f"/posts/{post_id}")).json()
        assert (post["title"], post["body"], comment.json()["body"]) == (text, text, text)
        assert (await ada.get("/posts")).json()["items"][0] == post


async def test_the_longest_texts_fit(ada: Client) -> None:
    post_id = await a_post(ada, title="🐝" * 200, body="🐝" * 10_000)

    comment = await ada.post(f"/posts/{post_id}/comments", json={"body": "🐝" * 2_000})

    assert comment.status_code == 201
    assert (await ada.get(f"/posts/{post_id}")).json()["body"] == "🐝" * 10_000


async def test_the_longest_texts_fit_with_every_character_escaped(ada: Client) -> None:
    title, body, comment = "🐝" * 200, "🐝" * 10_000, "🐝" * 2_000

    def escaped(**values: str) -> dict[str, Any]:
        return {"content": json.dumps(values, indent=4), "headers": JSON}

    posted = await ada.post("/posts", **escaped(title=title, body=body))
    path = f"/posts/{posted.json()['id']}"
    edited = await ada.patch(path, **escaped(body=body, title=title))
    commented = await ada.post(f"{path}/comments", **escaped(body=comment))

    assert [each.status_code for each in (posted, edited, commented)] == [201, 200, 201]
    assert edited.json()["body"] == body


async def test_a_body_that_no_post_could_fill_is_413(ada: Client) -> None:
    answer = await ada.post("/posts", content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_long")
    assert f"{MAX_BODY_BYTES} bytes" in answer.json()["detail"]


async def test_a_post_that_does_not_fit_is_refused(ada: Client, sessions: Sessions) -> None:
    for bad in BAD_POSTS:
        answer = await ada.post("/posts", content=bad, headers=JSON)

        assert answer.status_code == 422, bad
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "invalid"
    assert await events(sessions) == []


async def test_bytes_that_are_no_json_get_a_clear_answer(ada: Client) -> None:
    for content in (b"\xff\xfe\x00", b"[" * 20_000, b'{"title": NaN}'):
        answer = await ada.post("/posts", content=content, headers=JSON)
        assert answer.status_code in (400, 422), content[:10]
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_its_author_edits_a_post(ada: Client, sessions: Sessions) -> None:
    post_id = await a_post(ada, title="Hello", body="World")

    edited = await ada.patch(f"/posts/{post_id}", json={"title": " Goodbye "})

    assert edited.status_code == 200
    assert (edited.json()["title"], edited.json()["body"]) == ("Goodbye", "World")
    assert (await ada.get(f"/posts/{post_id}")).json() == edited.json()
    told = (await events(sessions))[-1]
    assert (told.type, told.data) == ("post_edited", {"post_id": post_id, "title": "Goodbye"})


async def test_an_edit_that_changes_nothing_tells_nobody(ada: Client, sessions: Sessions) -> None:
    post_id = await a_post(ada, title="Hello", body="World")

    for same in ({}, {"title": "Hello"}, {"body": " World "}):
        assert (await ada.patch(f"/posts/{post_id}", json=same)).status_code == 200

    assert [event.type for event in await events(sessions)] == ["post_created"]


async def test_an_edit_that_does_not_fit_is_refused(ada: Client) -> None:
    post_id = await a_post(ada)

    for bad in ({"title": ""}, {"title": None}, {"body": " "}, {"body": 7}, ["title"]):
        assert (await ada.patch(f"/posts/{post_id}", json=bad)).status_code == 422, bad


async def test_an_edited_post_is_shown_with_the_editors_own_like(ada: Client) -> None:
    post_id = await a_post(ada)
    await ada.put(f"/posts/{post_id}/like")

    edited = (await ada.patch(f"/posts/{post_id}", json={"body": "new"})).json()

    assert (edited["liked"], edited["like_count"]) == (True, 1)


async def test_anothers_post_is_not_ours_to_change(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)

    edit = await grace.patch(f"/posts/{post_id}", json={"title": "Mine"})
    delete = await grace.delete(f"/posts/{post_id}")

    assert [edit.status_code, delete.status_code] == [403, 403]
    assert [edit.json()["code"], delete.json()["code"]] == ["not_the_author", "not_the_author"]
    assert (await ada.get(f"/posts/{post_id}")).json()["title"] == "Hello"
    assert [event.type for event in await events(sessions)] == ["post_created"]


async def test_a_deleted_post_is_gone_with_what_hung_on_it(
    ada: Client, grace: Client, sessions: Sessions
) -> None:
    post_id = await a_post(ada)
    await grace.put(f"/posts/{post_id}/like")
    await grace.post(f"/posts/{post_id}/comments", json={"body": "Nice"})

    deleted = await ada.delete(f"/posts/{post_id}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, path in [
        ("GET", f"/posts/{post_id}"),
        ("GET", f"/posts/{post_id}/comments"),
        ("POST", f"/posts/{post_id}/like"),
        ("DELETE", f"/posts/{post_id}"),
    ]:
        answer = await ada.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "post_not_found")
    assert (await ada.get("/posts")).json() == {"items": [], "next_cursor": None}
    told = (await events(sessions))[-1]
    assert (told.type, told.data, told.recipients) == ("post_deleted", {"post_id": post_id}, ())


async def test_the_id_of_a_deleted_post_is_never_given_again(ada: Client) -> None:
    first = await a_post(ada)
    await ada.delete(f"/posts/{first}")

    assert await a_post(ada) > first


async def test_a_post_that_is_not_there_is_404(ada: Client) -> None:
    for post_id in (0, -1, 999_999, 2**31, 2**63 - 1, 2**63, 2**64, 10**40):
        for method, path, body in [
            ("GET", "", None),
            ("PATCH", "", {"title": "x"}),
            ("DELETE", "", None),
            ("POST", "/like", None),
            ("PUT", "/like", None),
            ("DELETE", "/like", None),
            ("POST", "/comments", {"body": "x"}),
            ("GET", "/comments", None),
        ]:
            answer = await ada.request(method, f"/posts/{post_id}{path}", json=body)
            assert answer.status_code == 404, (method, post_id, path)
            assert answer.json()["code"] == "post_not_found"


async def test_an_id_that_is_no_number_is_422(ada: Client) -> None:
    for post_id in ("x", "1.5", "9" * 5000, "%00", "1;--"):
        assert (await ada.get(f"/posts/{post_id}")).status_code == 422, post_id


async def test_everything_needs_a_token(app: FastAPI) -> None:
    async with a_client(app, 1, "Ada") as anybody:
        del anybody.headers["Authorization"]
        for method, path in [
            ("GET", "/posts"),
            ("POST", "/posts"),
            ("GET", "/posts/1"),
            ("PATCH", "/posts/1"),
            ("DELETE", "/posts/1"),
            ("POST", "/posts/1/like"),
            ("PUT", "/posts/1/like"),
            ("DELETE", "/posts/1/like"),
            ("GET", "/posts/1/comments"),
            ("POST", "/posts/1/comments"),
        ]:
            for headers in ({}, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}):
                answer = await anybody.request(method, path, headers=headers, json={})
                assert answer.status_code == 401, (method, path)
                assert answer.json()["code"] == "invalid_token"
                assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_users_with_the_greatest_id_can_write(app: FastAPI) -> None:
    async with a_client(app, 2**63 - 1, "Max") as greatest:
        post_id = await a_post(greatest)
        assert (await greatest.put(f"/posts/{post_id}/like")).status_code == 200


async def test_a_new_post_is_told_of_with_its_trace(ada: Client, sessions: Sessions) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    created = await ada.post(
        "/posts",
        json={"title": "Hello", "body": "World"},
        headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    )

    [told] = await events(sessions)
    post_id = created.json()["id"]
    assert told.type == "post_created"
    assert told.data == {
        "post_id": post_id,
        "title": "Hello",
        "author_id": 1,
        "author_name": "Ada",
    }
    assert told.recipients == ()
    assert told.channels == (f"post:{post_id}", "chat:feed")
    assert told.traceparent is not None
    assert told.traceparent.split("-")[1] == trace_id
