"""A PRES stream whose answers a test decides: replicas that lag, changes during a read."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.presence.records import (
    LEASE_BODY,
    REMOVAL_HEADERS,
    Entry,
    EntryKey,
    NodeId,
    entry_subject,
    lease_subject,
)
from hubbub_client.contracts.ids import ChannelName, UserId
from hubbub_client.contracts.subjects import PRES_LIVE, PRES_PUB
from hubbub_client.nats.client import Bus
from hubbub_client.nats.headers import encode_headers

LOBBY = ChannelName("chat:lobby")
NODE = NodeId("n1")


class Message(NamedTuple):
    """One stored message."""

    sequence: int
    subject: str
    payload: bytes


def lease(sequence: int) -> Message:
    return Message(sequence, lease_subject(NODE), LEASE_BODY)


def entry(sequence: int, user_id: int) -> Message:
    subject = entry_subject(EntryKey((LOBBY, UserId(str(user_id))), NODE))
    return Message(sequence, subject, Entry(f"User {user_id}", sequence, ()).encode())


def removal(sequence: int, user_id: int) -> Message:
    return entry(sequence, user_id)._replace(payload=b"")


class ScriptedStream:
    """Answers like the stream PRES, on a server without JetStream."""

    def __init__(self, bus: Bus, *held: Message) -> None:
        self.held = list(held)
        """The messages that the leader has."""
        self.last = held[-1].sequence
        self.answers: list[list[Message]] = []
        """The next answers to a snapshot's reads. After them, the leader's messages."""
        self.before_answer: Callable[[], None] = lambda: None
        """Called before a snapshot's read is answered."""
        self.reads = 0
        self._bus = bus

    async def open(self) -> "ScriptedStream":
        await self._bus.subscribe("$JS.API.DIRECT.GET.PRES", self._direct_get)
        await self._bus.subscribe("$JS.API.STREAM.INFO.PRES", self._info)
        await self._bus.subscribe("$JS.API.STREAM.MSG.GET.PRES", self._leader_get)
        return self

    def store(self, message: Message) -> None:
        """Store it, and send its live copy."""
        self.held = [each for each in self.held if each.subject != message.subject]
        self.held.append(message)
        self.last = message.sequence
        subject = PRES_LIVE + message.subject.removeprefix(PRES_PUB)
        self._bus.send(subject, message.payload, headers=_block(message, 0))

    def _direct_get(self, _subject: bytes, payload: bytes, _headers: Any, reply: bytes) -> None:
        request = json.loads(payload)
        found = [message for message in self.held if message.sequence >= request["seq"]]
        if "next_by_subj" in request:
            self.reads += 1
            if self.answers:
                found = self.answers.pop(0)
            self.before_answer()
        before = 0
        for message in found:
            block = _block(message, before)
            self._bus.send(reply.decode(), message.payload, headers=block)
            before = message.sequence
        end = f"204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: {before}"
        status = end if found else "404 Message Not Found"
        self._bus.send(reply.decode(), b"", headers=f"NATS/1.0 {status}\r\n\r\n".encode())

    def _info(self, _subject: bytes, _payload: bytes, _headers: Any, reply: bytes) -> None:
        state = {"first_seq": 1, "last_seq": self.last, "last_ts": ""}
        answer = {"state": state, "config": {"metadata": {"epoch": "e"}}}
        self._bus.send(reply.decode(), json.dumps(answer).encode())

    def _leader_get(self, _subject: bytes, payload: bytes, _headers: Any, reply: bytes) -> None:
        wanted = json.loads(payload)["seq"]
        found = any(message.sequence >= wanted for message in self.held)
        message = {"seq": wanted, "subject": PRES_PUB, "time": ""}
        answer = {"message": message} if found else {"error": {"code": 404, "err_code": 10037}}
        self._bus.send(reply.decode(), json.dumps(answer).encode())


def _block(message: Message, before: int) -> bytes:
    headers = {} if message.payload else REMOVAL_HEADERS
    return encode_headers(
        {
            **headers,
            "Nats-Subject": message.subject,
            "Nats-Sequence": str(message.sequence),
            "Nats-Last-Sequence": str(before),
        }
    )
