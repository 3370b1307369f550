"""In which formats the clients on one kind of transport see publications: whole, filtered, patched.

A subscription with delta is sent one publication whole, and from then on patches, each against the
publication before it in the channel. Since listeners are grouped by format, it changes its group.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from gateway.channels.connection import Format, Frame
from gateway.channels.registry import ConnectionManager
from gateway.protocols.centrifuge.codec import (
    Codec,
    a_list,
    json_of,
    publication_json,
    publication_of,
)
from gateway.protocols.centrifuge.filters import Predicate, Tags, compile_filter, text_of
from gateway.protocols.centrifuge.fossil import patch_text
from gateway.streams.encodings import Encodings
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, Publication, StoredPublication

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
        self._filtered: WeakValueDictionary[bytes, _Filtered] = WeakValueDictionary()
        """Those that somebody listens by."""
        self.whole: Format = codec.publication
        self._tagged = _Tagged(self.whole)
        self.first_whole: Format = self._first_whole
        self.patched: Format = self._patched

    def filtered(self, node: Mapping[str, Any]) -> Format:
        """Only what has tags that the filter takes; equal filters are one format.

        Raises:
            BadFilter: it isn't one.
        """
        text = text_of(node)
        known = self._filtered.get(text)
        if known is None:
            known = self._filtered[text] = _Filtered(compile_filter(node), self._tagged)
        return known

    def replayed(
        self, seen: Format, missed: list[StoredPublication], *, in_patches: bool, known: Encodings
    ) -> bytes:
        """What a client missed, as its reply lists it; empty if that is nothing.

        Args:
            seen: How it sees publications live.
            in_patches: The first is whole, and then each is a patch of the one before it.
            known: What was made of it for others.
        """
        if not missed:
            return b""
        if in_patches:
            return known.of(Formats._in_turn, missed, lambda: _listed(self._in_turn(missed)))
        holds = seen.holds if isinstance(seen, _Filtered) else None
        return known.of((whole_list, holds), missed, lambda: whole_list(missed, holds))

    def _in_turn(self, missed: list[StoredPublication]) -> Iterator[bytes]:
        before: StoredPublication | None = None
        for stored in missed:
            with suppress(BadPublication):  # as for those who were live
                yield self._patch_of(stored, before)
                before = stored

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


class _Tagged:
    """The latest publication, read once for all filters, and encoded once for all that take it."""

    def __init__(self, whole: Format) -> None:
        self._whole = whole
        self._stored: StoredPublication | None = None
        self._tags: Tags = {}
        self._frame: Frame | None = None

    def tags_of(self, stored: StoredPublication) -> Tags:
        if stored is not self._stored:
            self._tags = tags_of(stored)
            self._stored, self._frame = stored, None
        return self._tags

    def frame_of(self, stored: StoredPublication) -> Frame | None:
        """Of the one whose tags were read last."""
        if self._frame is None:
            self._frame = self._whole(stored)
        return self._frame


class _Filtered:
    """The format of those who asked for the same filter."""

    def __init__(self, holds: Predicate, tagged: _Tagged) -> None:
        self.holds = holds
        self._tagged = tagged

    def __call__(self, stored: StoredPublication) -> Frame | None:
        holds = self.holds(self._tagged.tags_of(stored))
        return self._tagged.frame_of(stored) if holds else None


def whole_list(publications: list[StoredPublication], holds: Predicate | None = None) -> bytes:
    """As a reply lists them, of a filter those that it takes; empty if that is none."""
    return _listed(_whole(publications, holds))


def _whole(publications: list[StoredPublication], holds: Predicate | None) -> Iterator[bytes]:
    for stored in publications:
        with suppress(BadPublication):  # as for those who were live
            if holds is None or holds(tags_of(stored)):
                yield publication_json(stored)


def _listed(publications: Iterable[bytes]) -> bytes:
    found = list(publications)
    return a_list(found) if found else b""


def tags_of(stored: StoredPublication) -> dict[str, str]:
    return Publication.decode(stored.payload).tags or {}


def _data_of(stored: StoredPublication) -> bytes | None:
    try:
        return json_of(Publication.decode(stored.payload).data)
    except BadPublication:  # nobody was sent it
        return None
