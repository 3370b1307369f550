"""What the posts service tells of posts, in the AsyncAPI document."""

from pydantic import BaseModel

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.subjects import event_subject
from hubbub_client.events import event_name
from posts_service.events import EVENTS, NOTIFIED
from posts_service.use_cases import FEED
from shared.documents.asyncapi import Channel, Message, Server
from shared.documents.schemas import Schema, given, named, renamed


def _envelope(event: type[BaseModel]) -> Message:
    """As it crosses the bus."""
    name = event_name(event).name
    known: Schema = {
        "type": "object",
        "properties": {"type": {"const": name}, "data": given(event)},
        "required": ["type", "data"],
    }
    envelope = renamed(given(Envelope), "SentEnvelope")  # what is taken may lack members
    payload = named(f"{event.__name__}Envelope", {"allOf": [envelope, known]})
    return Message(f"{event.__name__}Envelope", payload, _summary(event))


def _publication(event: type[BaseModel]) -> Message:
    """As subscribers get it: `hubbub_client.contracts.envelope.Envelope.to_publication_data`."""
    known: Schema = {
        "type": "object",
        "properties": {"event": {"const": event_name(event).name}, "id": {"type": "string"}},
        "required": ["event", "id"],
    }
    payload = named(f"{event.__name__}Data", {"allOf": [given(event), known]})
    return Message(f"{event.__name__}Data", payload, _summary(event))


def _summary(event: type[BaseModel]) -> str:
    return (event.__doc__ or "").strip()


_OF_POSTS = [_publication(event) for event in EVENTS]

CHANNELS = (
    Channel(
        key="posts_events",
        address=event_subject("posts", "{type}"),
        server=Server.BUS,
        description="What happened to posts, in the stream EVENTS.",
        parameters={"type": "The name of the event."},
        sends=[_envelope(event) for event in EVENTS],
    ),
    Channel(
        key="post",
        address="post:{post_id}",
        server=Server.CENTRIFUGE,
        description="What happens to one post, for those who look at it.",
        parameters={"post_id": "The post's id."},
        sends=_OF_POSTS,
    ),
    Channel(
        key="feed",
        address=FEED,
        server=Server.CENTRIFUGE,
        description="What happens to all posts. At `/ws/chat` it is the room `feed`, where each of"
        " these is the `data` of a `publication`.",
        sends=_OF_POSTS,
    ),
    Channel(
        key="posts_notifications",
        address="#{user_id}",
        server=Server.CENTRIFUGE,
        description="What a post's author is told, in the personal channel. At `/ws/chat` each of"
        " these is a `notification`, its members beside the frame's own.",
        parameters={"user_id": "The author's id."},
        sends=[_publication(event) for event in NOTIFIED],
    ),
)
