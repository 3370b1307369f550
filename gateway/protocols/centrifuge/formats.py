"""In which formats the clients on one kind of transport see publications: whole, filtered, patched.

A subscription with delta is sent one publication whole, and from then on patches, each against the
publication before it in the channel. Since listeners are grouped by format, it changes its group.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.channels.connection import Format, Frame
from gateway.channels.registry import ConnectionManager
from gateway.protocols.centrifuge.codec import Codec, json_of, publication_json, publication_of
from gateway.protocols.centrifuge.filters import Predicate, compile_filter
from gateway.protocols.centrifuge.fossil import patch_text
from shared.contracts.ids import ChannelName
from shared.contracts.publications import BadPublication, Publication, StoredPublication

_MAX_FILTERS = 1000
"""That are kept to be shared; with more, equal ones are encoded apart."""

Before = Callable[[ChannelName, int], StoredPublication | None]
"""Gets the publication before the one at an offset, if it is in memory."""


class Formats:
    """Those of one codec."""

    def __init__(
        self,
        codec: Codec,
        manager: ConnectionManager,
        *,
        before: Before,
        patches_all: Callable[[ChannelName], bool],
        soon: Callable[..., object],
    ) -> None:
        """
        Args:
            patches_all: Whether all of a channel's publications may be patches, and not only those
                that say so.
            soon: Calls in the next turn what it is given, with the arguments behind it.
        """
        self._codec = codec
        self._manager = manager
        self._before = before
        self._patches_all = patches_all
        self._soon = soon
        self._filtered: OrderedDict[bytes, Format] = OrderedDict()
        self.whole: Format = codec.publication
        self.first_whole: Format = self._first_whole
        self.patched: Format = self._patched

    def filtered(self, node: Mapping[str, Any]) -> Format:
        """Only what has tags that the filter takes; equal filters are one format.

        Raises:
            BadFilter: it isn't one.
        """
        text = json_of(node)
        known = self._filtered.get(text)
        if known is None:
            known = self._filtered[text] = _Filtered(compile_filter(node), self.whole)
            if len(self._filtered) > _MAX_FILTERS:
                self._filtered.popitem(last=False)
        return known

    def replayed(self, seen: Format) -> Callable[[StoredPublication], bytes | None]:
        """How what a client missed is listed in its reply; None is for what it is not to see."""
        holds = seen.holds if isinstance(seen, _Filtered) else None

        def listed(stored: StoredPublication) -> bytes | None:
            with suppress(BadPublication):  # as for those who were live
                if holds is None or holds(tags_of(stored)):
                    return publication_json(stored)
            return None

        return listed

    def in_turn(self, missed: list[StoredPublication]) -> list[bytes]:
        """What a client with delta missed, as its reply has it: the first whole, then patches."""
        found: list[bytes] = []
        before: StoredPublication | None = None
        for stored in missed:
            with suppress(BadPublication):  # as for those who were live
                found.append(self._patch_of(stored, before))
                before = stored
        return found

    def _first_whole(self, stored: StoredPublication) -> Frame:
        self._soon(self._go_on_with_patches, stored.channel, stored.offset)
        return self._codec.push(stored.channel, b"pub", self._patch_of(stored, None))

    def _go_on_with_patches(self, channel: ChannelName, offset: int) -> None:
        """For those who were sent that one; others have come since, or are catching up."""
        for subscription in tuple(self._manager.listeners(channel, self.first_whole)):
            if subscription.live_from <= offset:
                self._manager.reformat(subscription, self.patched)

    def _patched(self, stored: StoredPublication) -> Frame:
        before = self._before(stored.channel, stored.offset)
        return self._codec.push(stored.channel, b"pub", self._patch_of(stored, before))

    def _patch_of(self, stored: StoredPublication, before: StoredPublication | None) -> bytes:
        """The publication, whose data is JSON text in a string, or a patch of the one before it."""
        publication = Publication.decode(stored.payload)
        data = json_of(publication.data)
        patch = None
        if publication.delta or self._patches_all(stored.channel):
            base = None if before is None else _data_of(before)
            patch = None if base is None else patch_text(base, data)
        text = json_of(data.decode() if patch is None else patch)
        return publication_of(publication, text, stored.offset, is_patch=patch is not None)


class _Filtered:
    """The format of those who asked for the same filter."""

    def __init__(self, holds: Predicate, whole: Format) -> None:
        self.holds = holds
        self._whole = whole

    def __call__(self, stored: StoredPublication) -> Frame | None:
        return self._whole(stored) if self.holds(tags_of(stored)) else None


def tags_of(stored: StoredPublication) -> dict[str, str]:
    return Publication.decode(stored.payload).tags or {}


def _data_of(stored: StoredPublication) -> bytes | None:
    try:
        return json_of(Publication.decode(stored.payload).data)
    except BadPublication:  # nobody was sent it
        return None
