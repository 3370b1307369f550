"""The posts with the most likes: consumes the posts service's events, and publishes a ranking."""

from contextlib import closing
from pathlib import Path

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from examples.top_posts.ranking import Ranked, Ranking
from hubbub_client.bus import BusHubbub, Events, Received, connect

CHANNEL = "chat:top"
SHOWN = 3


class Settings(BaseSettings):
    """From the environment."""

    top_posts_bus: Path = Path(".hubbub/bus/application_url")
    """Has the URL of the bus, with user and password."""
    top_posts_database: Path = Path("top_posts.sqlite3")


class PostLiked(BaseModel):
    """What we need of the event."""

    post_id: int
    post_title: str
    like_count: int


class PostUnliked(BaseModel):
    post_id: int
    like_count: int


class PostDeleted(BaseModel):
    post_id: int


class TopPosts(BaseModel):
    """What we publish."""

    posts: list[Ranked]


def create_events(hubbub: BusHubbub, ranking: Ranking) -> Events:
    events = Events("top-posts", begin="all")

    @events.on(PostLiked, service="posts")
    async def liked(event: PostLiked, received: Received) -> None:
        ranking.note(event.post_id, event.like_count, received.time, title=event.post_title)
        await publish()

    @events.on(PostUnliked, service="posts")
    async def unliked(event: PostUnliked, received: Received) -> None:
        ranking.note(event.post_id, event.like_count, received.time)
        await publish()

    @events.on(PostDeleted, service="posts")
    async def deleted(event: PostDeleted, received: Received) -> None:
        ranking.note(event.post_id, 0, received.time)
        await publish()

    async def publish() -> None:
        # Under no key of the event's: if it comes again, the ranking may be another one by then.
        await hubbub.publish(CHANNEL, TopPosts(posts=ranking.first(SHOWN)))

    return events


async def serve(settings: Settings) -> None:
    """Until SIGTERM or Ctrl-C."""
    bus = settings.top_posts_bus
    with closing(Ranking(settings.top_posts_database)) as ranking:
        async with connect(bus, service="top-posts") as hubbub:
            await create_events(hubbub, ranking).serve(bus)
