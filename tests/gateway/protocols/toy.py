"""Another protocol over the same sessions and the same transport: lines of words, its own codes.

A tab says `<token> <since> <channel> <channel> …`, is answered `live <offset>`, and then says
`<number of a channel> <word>`. It hears `<channel> <offset> <data>`, and, of what is missing,
`gap <reason> <channel> …`.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from gateway.errors import EndReason
from gateway.session.access import end_reason
from gateway.session.command_queue import CommandQueue
from gateway.session.rate import RateLimits
from gateway.session.session import Session, SessionKind
from gateway.streams.feed import Unrecoverable
from gateway.streams.publishing import PublishResult
from gateway.transport.connection import Connection
from gateway.transport.frames import Close, Frame, text_frame
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.publications import Publication, StoredPublication
from shared.tokens.claims import Claims


def line(*words: object) -> Frame:
    return text_frame(" ".join(map(str, words)).encode())


def encode(publication: StoredPublication) -> Frame:
    data = Publication.decode(publication.payload).data
    return line(publication.channel, publication.offset, json.dumps(data))


class ToyClient:
    close_codes: ClassVar[Mapping[EndReason, Close]] = {
        reason: Close(4000 + number, reason.name) for number, reason in enumerate(EndReason)
    }

    ping: ClassVar[Frame | None] = None

    def __init__(self, connection: Connection, sessions: SessionKind) -> None:
        self._connection = connection
        self._sessions = sessions
        self._session: Session | None = None
        no_limit = RateLimits(commands_per_second=0, burst=1, max_refusals=1)
        self._commands: CommandQueue[str] = CommandQueue(connection, no_limit, max_waiting=8)

    def received(self, message: str | bytes) -> None:
        if self._session is None:
            token, *asked = str(message).split()
            self._sessions.access.sign_in(
                token,
                self._connection,
                admit=partial(self._admit, asked),
                refuse=lambda error: self._connection.close(end_reason(error)),
            )
        else:
            self._commands.put(str(message), self._publish)

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None:
        if self._session is not None:
            self._session.end()

    def _admit(self, asked: list[str], claims: Claims) -> None:
        self._session = session = Session(self._connection, claims, self._sessions)
        session.admit(units=1)
        session.begin()
        for channel in asked[1:]:
            session.subscribe(parse_channel(channel), encode)
        self._connection.start(self._recover(session, since=int(asked[0])))

    async def _recover(self, session: Session, since: int) -> None:
        with session.recovering(*session.subscriptions) as recovery:
            try:
                await recovery.run(since or self._sessions.catch_up.position, None)
            except Unrecoverable as hole:
                session.tell_hole(session.subscriptions, hole.reason)
                await recovery.run(self._sessions.catch_up.position, None)
        session.send(line("live", session.delivered_offset))
        self._commands.open(self._publish)

    def _publish(self, message: str) -> bool:
        assert self._session is not None
        number, word = message.split()
        try:
            channel = self._session.subscriptions[int(number)].channel
            self._session.publish(channel, {"body": word}, self._published)
        except AppError as error:
            self._connection.send(line("no", error.code))
            return False
        return True

    def _published(self, result: PublishResult) -> None:
        told = ("no", result.code) if isinstance(result, AppError) else ("ok", result.offset)
        self._connection.send(line(*told))
        self._commands.done(self._publish)
