"""Publications as they go over the bus: what over HTTP a gateway makes of a request. Pure."""

import json
from typing import Any

from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.envelope import Encoded
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, Publication
from hubbub_client.contracts.subjects import api_message_id, ephemeral_subject, publication_subject
from hubbub_client.errors import BadRequest
from hubbub_client.exchange import Answer, check_size, to_json
from hubbub_client.publishing import Publish


def encode(publish: Publish) -> Encoded:
    """
    Raises:
        BadRequest, TooLarge: it can never be stored.
        TypeError, ValueError: the data is no JSON, or no event though it looks like one.
    """
    body = publish.to_body()
    channel, payload = _encode(body)
    message_id = api_message_id(channel, body["idempotency_key"])
    return Encoded(publication_subject(channel), payload, message_id)


def encode_ephemeral(publish: Publish) -> tuple[str, bytes]:
    """The subject and the payload; raises like `encode`."""
    channel, payload = _encode(publish.to_body())
    return ephemeral_subject(channel), payload


def is_same_data(one: bytes, other: bytes) -> bool:
    """Whether two payloads have the same data, whatever else they say."""
    try:
        first, second = (Publication.decode(each).data for each in (one, other))
    except BadPublication:
        return False
    # Compared as sorted JSON, since Python's == takes True and 1 for the same.
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _encode(body: Answer) -> tuple[ChannelName, bytes]:
    data: Any = json.loads(to_json(body["data"]))  # as a gateway would read it
    try:
        channel = parse_channel(body["channel"])
        publication = Publication(data, tags=body.get("tags"), delta=body.get("delta", False))
        payload = publication.encode()
    except (BadChannelName, BadPublication) as error:
        raise BadRequest(str(error)) from error
    check_size(payload)
    return channel, payload
