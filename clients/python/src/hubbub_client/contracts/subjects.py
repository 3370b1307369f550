"""Names on the bus: subjects, and the ids under which a message is stored once. Pure.

A channel is one token of a subject, and so is a user id. Characters that a token may not hold are
escaped: ``.`` as ``~``, which keeps common names short; ``~``, ``*``, ``>`` and ``%`` as in a URL.
The anonymous user's id is empty, which no token may be: it is a bare ``%``.
"""

import hashlib
import re
from functools import lru_cache
from urllib.parse import quote, unquote

from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ANONYMOUS, BadUserId, ChannelName, UserId, parse_user_id

RT_PUB = "rt.pub."
RT_LIVE = "rt.live."
PRES_PUB = "pres.st."
PRES_LIVE = "pres.live."
CTL_PUB = "ctl.pub."
CTL_LIVE = "ctl.live."
EVENTS = "events."
EPHEMERAL = "eph."
"""In no stream."""

MAX_MESSAGE_ID_BYTES = 512
MAX_EVENT_ID_CHARS = 64

OWN_NAMES = frozenset({"auth", "notify", "posts"})
"""Of Hubbub's services, and of the consumer of its gateways. The bus refuses them to others."""

_KNOWN_NAMES = 1024  # most messages go to the same channels; at most 1.3 MiB

_SERVICE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_UNESCAPED = "#$@,"  # beside letters, digits and "_.-~"; never ":", which separates the parts
_IN_A_TOKEN = str.maketrans({".": "~"} | {each: f"%{ord(each):02X}" for each in "~*>%"})
_EMPTY = "%"
_NEEDS_NO_ESCAPE = re.compile(rf"[\w.~{_UNESCAPED}-]*", re.ASCII)


@lru_cache(maxsize=_KNOWN_NAMES)
def token_of(name: ChannelName | UserId) -> str:
    """A channel or a user id as one token of a subject."""
    return name.translate(_IN_A_TOKEN) or _EMPTY


@lru_cache(maxsize=_KNOWN_NAMES)
def channel_of(token: str) -> ChannelName:
    """The channel of which `token_of` makes the token.

    Raises:
        BadChannelName: there is none; two subjects must not be one channel.
    """
    channel = parse_channel(_name_in(token))
    if token_of(channel) != token:
        raise BadChannelName("not a channel as one token of a subject")
    return channel


@lru_cache(maxsize=_KNOWN_NAMES)
def user_of(token: str) -> UserId:
    """The user id of which `token_of` makes the token.

    Raises:
        BadUserId: there is none.
    """
    if token == _EMPTY:
        return ANONYMOUS
    user_id = parse_user_id(_name_in(token))
    if token_of(user_id) != token:
        raise BadUserId("not a user id as one token of a subject")
    return user_id


def _name_in(token: str) -> str:
    return unquote(token.replace("~", "."), encoding="latin-1")


def publication_subject(channel: ChannelName) -> str:
    """The subject of publications into the channel."""
    return f"{RT_PUB}{token_of(channel)}"


def ephemeral_subject(channel: ChannelName) -> str:
    """The subject of publications into the channel that are for those who are there."""
    return f"{EPHEMERAL}{token_of(channel)}"


def event_subject(service: str, event_type: str) -> str:
    """The subject of a service's events of one type."""
    return f"{EVENTS}{service}.{event_type}"


def parse_service(name: str) -> str:
    """Check the name of a service, which is a token of a subject and of a consumer's name.

    Raises:
        ValueError: no service can be called so.
    """
    if not _SERVICE.fullmatch(name):
        raise ValueError(
            f"no service is called {name!r}: 1-32 of a-z, 0-9, _ and -, a letter first"
        )
    return name


def parse_application(name: str) -> str:
    """Check the name of an application's service or consumer.

    Raises:
        ValueError: none can be called so, or Hubbub's own are, whose events no other may tell.
    """
    if parse_service(name) in OWN_NAMES:
        raise ValueError(f"{name!r} is Hubbub's own")
    return name


def emitted_id(service: str, event_type: str, key: str) -> str:
    """The id of an event with that idempotency key: another service may have the same key."""
    joined = f"{service}:{event_type}:{_escape(key)}"
    if len(joined) <= MAX_EVENT_ID_CHARS:
        return joined
    return hashlib.sha256(joined.encode()).hexdigest()


def user_message_id(user_id: UserId, channel: ChannelName, client_id: str) -> str:
    """The id of what a user publishes, with the id that the client chose."""
    return _message_id("u", _escape_name(user_id), _escape_name(channel), _escape(client_id))


def api_message_id(channel: ChannelName, key: str) -> str:
    """The id of what a service publishes, with its idempotency key."""
    return _message_id("api", _escape_name(channel), _escape(key))


def event_message_id(event_id: str, channel: ChannelName) -> str:
    """The id of the publication that is made of an event in a channel."""
    return _message_id("ev", _escape(event_id), _escape_name(channel))


def _message_id(*parts: str) -> str:
    """Join escaped parts so that no two lists of parts give the same id.

    The dedupe scope is the whole stream: if two channels or users had one id, a message would be
    dropped as a duplicate.
    """
    joined = ":".join(parts)
    if len(joined) <= MAX_MESSAGE_ID_BYTES:
        return joined
    return f"x:{hashlib.sha256(joined.encode()).hexdigest()}"


def _escape(part: str) -> str:
    """Escape any text, lone surrogates too."""
    if _NEEDS_NO_ESCAPE.fullmatch(part):  # quote() costs ten times as much
        return part
    return quote(part, safe=_UNESCAPED, errors="surrogatepass")


_escape_name = lru_cache(maxsize=_KNOWN_NAMES)(_escape)
"""For channels and users, which come again and again; other parts come once."""
