"""All that a gateway says and hears, in the AsyncAPI document: its protocols', and the bus's."""

from gateway.protocols.centrifuge import asyncapi as centrifuge
from gateway.protocols.chat import asyncapi as chat
from hubbub_client.contracts.envelope import Envelope
from hubbub_client.contracts.publications import PublicationValues
from hubbub_client.contracts.subjects import RT_PUB, event_subject
from shared.documents.asyncapi import Channel, Message, Server
from shared.documents.schemas import taken

CHANNELS = (
    *chat.CHANNELS,
    *centrifuge.CHANNELS,
    Channel(
        key="events",
        address=event_subject("{service}", "{type}"),
        server=Server.BUS,
        description="What happened in a service, in the stream EVENTS. Each recipient's personal"
        " channel and each channel that is named gets one publication of it: the data, with"
        " `event` and `id`.",
        parameters={"service": "Who tells of it.", "type": "The name of the event."},
        receives=[Message("Envelope", taken(Envelope), "An event of a service.")],
    ),
    Channel(
        key="publications",
        address=f"{RT_PUB}{{channel}}",
        server=Server.BUS,
        description="What is published in a channel, in the stream RT. Each has a `Nats-Msg-Id`.",
        parameters={
            "channel": "The channel's name, escaped: `.` as `~`; `~`, `*`, `>` and `%` as in a URL."
        },
        receives=[Message("Publication", taken(PublicationValues), "A publication as stored.")],
    ),
)
