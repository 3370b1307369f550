"""A service that consumes events of the posts service, with the whole system."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.top_posts.ranking import Ranked, Ranking
from examples.top_posts.service import CHANNEL, create_events
from hubbub.demo import DEMO_PASSWORD
from hubbub_client import SyncHubbub
from hubbub_client.bus import EventFailed, connect
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.subjects import event_subject
from hubbub_client.nats.client import Bus
from posts_service.events import PostLiked
from tests.fixtures import plain_http
from tests.system.processes import HubbubProcess, Processes, processes_in, until

EMAILS = ("ada@example.com", "grace@example.com")


@dataclass(frozen=True)
class Example:
    """Started as its README says."""

    hubbub: HubbubProcess
    processes: Processes
    environment: dict[str, str]
    api_key: str

    def start(self) -> HubbubProcess:
        return self.processes.start(env=self.environment, module="examples.top_posts")

    def rankings(self) -> list[Any]:
        """What was published, in its order."""
        with SyncHubbub(self.hubbub.url, self.api_key) as reader:
            return [each.data["posts"] for each in reader.history(CHANNEL).publications]

    def until_ranked(self, **likes: int) -> None:
        """Until the newest one lists these posts, in this order."""
        posts = [{"title": title, "likes": count} for title, count in likes.items()]
        until(lambda: self.rankings()[-1:] == [posts], why=str(posts))

    def call(self, who: str, verb: str, path: str, **options: Any) -> Any:
        form = {"username": who, "password": DEMO_PASSWORD}
        token = plain_http.post(f"{self.hubbub.url}/auth/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.hubbub.url}{path}"
        answer = plain_http.request(verb, url, headers=headers, **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    with processes_in(tmp_path) as processes:
        hubbub = processes.up()
        data = tmp_path / "data"
        hubbub.until_logged(f"bus, application  {data / 'bus/application_url'}")
        environment = {
            "TOP_POSTS_BUS": str(data / "bus/application_url"),
            "TOP_POSTS_DATABASE": str(tmp_path / "ranking.sqlite3"),
        }
        api_key = (data / "api_key").read_text().strip()
        yield Example(hubbub, processes, environment, api_key)
        assert "Traceback" not in processes.logs()


def test_likes_are_ranked_and_none_is_missed_while_the_service_is_away(example: Example) -> None:
    ada, grace = EMAILS
    ids = [
        example.call(ada, "POST", "/posts", json={"title": title, "body": "b"})["id"]
        for title in ("First", "Second")
    ]
    example.call(grace, "POST", f"/posts/{ids[0]}/like")  # before there is the service
    service = example.start()
    example.until_ranked(First=1)

    for who in EMAILS:
        example.call(who, "POST", f"/posts/{ids[1]}/like")
    example.until_ranked(Second=2, First=1)

    assert service.stop() == 0
    example.call(ada, "POST", f"/posts/{ids[0]}/like")
    example.call(ada, "POST", f"/posts/{ids[1]}/like")  # takes it back
    example.start()
    example.until_ranked(First=2, Second=1)

    example.call(ada, "DELETE", f"/posts/{ids[0]}")
    example.until_ranked(Second=1)


def test_only_what_is_newer_counts(tmp_path: Path) -> None:
    ranking, now = Ranking(tmp_path / "ranking.sqlite3"), datetime.now(UTC)

    ranking.note(1, 2, now, title="First")
    ranking.note(2, 1, now, title="Second")
    ranking.note(1, 1, now - timedelta(seconds=1), title="Old")
    ranking.note(2, 3, now + timedelta(seconds=1))
    ranking.note(2, 3, now + timedelta(seconds=1))

    assert ranking.first(3) == [Ranked("Second", 3), Ranked("First", 2)]
    assert ranking.first(1) == [Ranked("Second", 3)]
    ranking.close()


def delivered(title: str, post_id: int) -> EventFailed:
    """A like, as `Events.retry` handles it."""
    like = PostLiked(post_id=post_id, post_title=title, liked_by="Ben", like_count=post_id)
    return EventFailed(
        consumer="top-posts",
        reason="",
        subject=event_subject("posts", "post_liked"),
        sequence=post_id,
        deliveries=1,
        payload=Envelope.of(like).model_dump_json(),
    )


async def test_an_event_that_comes_again_does_no_harm_though_the_ranking_has_changed(
    nats_url: str, bus: Bus, tmp_path: Path
) -> None:
    first, second = delivered("First", 1), delivered("Second", 2)
    with closing(Ranking(tmp_path / "ranking.sqlite3")) as ranking:
        async with connect(nats_url) as hubbub:
            events = create_events(hubbub, ranking)
            for event in (first, second, first):
                await events.retry(event)

        assert ranking.first(3) == [Ranked("Second", 2), Ranked("First", 1)]
