"""The commands that publish."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, NamedTuple

from gateway.channels.namespaces import Namespaces
from gateway.server_api.errors import (
    CODE_OF_REFUSAL,
    Answer,
    ApiError,
    ApiErrorCode,
    Begun,
    Result,
)
from gateway.server_api.methods import Run
from gateway.server_api.requests import (
    BroadcastRequest,
    Publishable,
    PublishRequest,
    channel_named,
    options_of,
)
from gateway.server_api.results import PublishResult
from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.publishing import ChannelPublisher
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Publication


class Publishing:
    """Stores what services say in channels, or passes it on to those who are there."""

    def __init__(
        self,
        publisher: ChannelPublisher,
        ephemeral: EphemeralFeed,
        *,
        namespaces: Namespaces,
        epoch: Callable[[], str],
    ) -> None:
        """
        Args:
            epoch: Returns the stream's epoch; empty until it is known.
        """
        self._publisher = publisher
        self._ephemeral = ephemeral
        self._namespaces = namespaces
        self._epoch = epoch
        self.methods: Mapping[str, Run] = {
            "publish": self.publish,
            "broadcast": self.broadcast,
        }

    def publish(self, request: PublishRequest) -> Result:
        """Publish into a channel.

        Raises:
            ApiError, AppError: now or later; it was not published, or nobody knows whether it was.
        """
        return self._publish(request.channel, self._read(request))

    async def broadcast(self, request: BroadcastRequest) -> Answer:
        """Publish the same into many channels, each by itself.

        Raises:
            ApiError: it can be published nowhere.
        """
        content = self._read(request)
        begun = [Begun(self._publish, channel, content) for channel in request.channels]
        return {"responses": [await each for each in begun]}

    def _read(self, request: Publishable) -> "_Content":
        """
        Raises:
            ApiError: it can be published nowhere.
        """
        return _Content(request, request.to_data(), self._publisher.encode)

    def _publish(self, name: str, content: "_Content") -> Result:
        request = content.request
        channel = channel_named(name)
        options = options_of(self._namespaces, channel)
        if not options.takes_data(content.data):
            raise ApiError(ApiErrorCode.BAD_REQUEST)
        if request.skip_history or options.ephemeral:
            return self._pass_on(channel, content)
        epoch = self._epoch()
        if not epoch:  # checked before publishing, since after it an error would be wrong
            raise ApiError(ApiErrorCode.INTERNAL)
        publication, encoded = content.encoded(delta=request.delta or options.delta_publish)
        key = request.idempotency_key or None
        stored = self._publisher.publish_by_service(channel, publication, key=key, encoded=encoded)
        return _Published(stored, epoch)

    def _pass_on(self, channel: ChannelName, content: "_Content") -> PublishResult:
        if content.request.idempotency_key:  # nobody could tell that it was sent before
            raise ApiError(ApiErrorCode.NOT_AVAILABLE, "idempotency_key, of what is not stored")
        refusal = self._namespaces.why_not_pass_on(channel)
        if refusal is not None:
            raise ApiError(CODE_OF_REFUSAL[refusal], "skip_history")
        publication, encoded = content.encoded(delta=False)
        self._ephemeral.publish(channel, publication, encoded=encoded)
        return {}


class _Content:
    """What a request publishes: read once and encoded once, however many channels it is for."""

    def __init__(
        self, request: Publishable, data: Any, encode: Callable[[Publication], bytes]
    ) -> None:
        self.request = request
        self.data = data
        self._encode = encode
        self._encoded: dict[bool, tuple[Publication, bytes]] = {}

    def encoded(self, *, delta: bool) -> tuple[Publication, bytes]:
        """The publication, and as it is stored.

        Raises:
            PublicationTooLong, PublicationRefused: it can never be.
        """
        if delta not in self._encoded:
            publication = Publication(self.data, tags=self.request.tags, delta=delta)
            self._encoded[delta] = publication, self._encode(publication)
        return self._encoded[delta]


class _Published(NamedTuple):
    """Awaited, it says where the publication is in the stream."""

    stored: Awaitable[int]
    epoch: str

    def __await__(self) -> Generator[Any, None, PublishResult]:
        offset = yield from self.stored.__await__()
        return {"offset": offset, "epoch": self.epoch}
