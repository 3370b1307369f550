"""What gateways ask each other, over the bus and past its streams.

A process has a name for as long as it lives, unlike its lease. It hears `gw.<node>.<kind>`, which
is for it alone, and `gw.all.<kind>`, which all hear. Nothing here is stored: who is away hears
nothing, and who asks is told whether all who hold a lease have answered.
"""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from hubbub_client.contracts.errors import AppError, ErrorKind, Unavailable
from hubbub_client.contracts.json_values import read_json
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected, NobodyAnswers

log = structlog.get_logger(__name__)

PREFIX = "gw."
_ALL = "all"
_NODE = re.compile(r"[0-9a-f]{16}")


class NoSuchNode(AppError):
    """No gateway of that name hears us."""

    kind: ClassVar[ErrorKind] = ErrorKind.NOT_FOUND
    code: ClassVar[str] = "no_such_node"


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """How long a gateway waits for others."""

    request_seconds: float = 3.0
    """For the answer of one; the SDKs give a command 5 s."""
    survey_seconds: float = 1.0
    """For the answers of all."""
    max_answer_bytes: int = 512 * 1024
    """Of one gateway; one that would be longer is none."""
    leave_seconds: float = 1.0
    """For the bus to take note that this gateway hears no more."""


class Question(BaseModel):
    """What is asked, as JSON. A newer gateway may ask with more members."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Q = TypeVar("Q", bound=Question)


class _Asked(Question):
    """A question on the bus."""

    sender: str
    body: Any = None


class _Answered(Question):
    """An answer on the bus."""

    node: str
    lease: str | None = None
    """Under which the node has its presence, at the time."""
    result: Any = None
    error: str | None = None


class Survey(NamedTuple):
    """What the gateways answered."""

    answers: Mapping[str, Any]
    """By node, of this one too."""
    is_complete: bool
    """Whether everybody answered who holds a lease."""


class Cluster:
    """This gateway among the others."""

    def __init__(
        self,
        bus: Bus,
        *,
        leases: Callable[[], frozenset[str]],
        own_lease: Callable[[], str | None],
        limits: ClusterLimits | None = None,
    ) -> None:
        """
        Args:
            leases: Of all gateways that hold one, as far as is known here.
            own_lease: This gateway's.
        """
        self.node = secrets.token_hex(8)
        """The name of this process."""
        self.limits = limits or ClusterLimits()
        self._bus = bus
        self._leases = leases
        self._own_lease = own_lease
        self._handlers: dict[str, Callable[[Any], Any]] = {}

    def handle(self, kind: str, model: type[Q], handler: Callable[[Q], Any]) -> None:
        """Let the handler answer such questions, our own too: at once, in JSON values."""
        self._handlers[kind] = lambda body: handler(model.model_validate(body))

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Hear the others, during the body."""
        subscriptions = [
            await self._bus.subscribe(f"{PREFIX}{name}.*", self._hear) for name in (self.node, _ALL)
        ]
        try:
            yield
        finally:
            async with asyncio.TaskGroup() as group:
                for subscription in subscriptions:
                    group.create_task(subscription.drain(seconds=self.limits.leave_seconds))

    async def ask(self, node: str, kind: str, body: Mapping[str, Any]) -> Any:
        """Ask one gateway; return what its handler did.

        Raises:
            NoSuchNode: there is none of that name, or none that hears us.
            Unavailable: it did not answer in time, or could not. It may have done it or not.
        """
        if node == self.node:
            return self._handlers[kind](body)
        if not _NODE.fullmatch(node):
            raise NoSuchNode(f"no gateway is called {node!r}")
        subject, question = f"{PREFIX}{node}.{kind}", self._question(body)
        try:
            async with asyncio.timeout(self.limits.request_seconds):
                await self._bus.until_connected()
                payload = await self._bus.request(
                    subject, question, timeout_seconds=self.limits.request_seconds
                )
        except TimeoutError as error:
            raise BusUnavailable("the bus is not connected") from error
        except NobodyAnswers as error:
            raise NoSuchNode("no gateway of that name is there") from error
        except MessageRejected as error:
            raise Unavailable(str(error)) from error
        answer = _read(_Answered, payload)
        if answer is None or answer.error is not None:
            raise Unavailable(f"gateway {node} could not do it")
        return answer.result

    async def survey(self, kind: str, body: Mapping[str, Any]) -> Survey:
        """Ask all, and wait until everybody has answered who holds a lease, or for a time.

        Raises:
            Unavailable: the others could not be asked.
            AppError: this gateway's own handler says so.
        """
        answers = {self.node: self._handlers[kind](body)}
        leases: set[str] = set()
        has_failed, heard = False, asyncio.Event()

        def take(payload: bytes, _headers: bytes | None) -> None:
            nonlocal has_failed
            answer = _read(_Answered, payload)
            if answer is None or answer.error is not None:
                has_failed = True
            else:
                answers[answer.node] = answer.result
            if answer is not None and answer.lease is not None:
                leases.add(answer.lease)
            heard.set()

        token, inbox = self._bus.expect_reply(take)
        try:
            self._bus.send(f"{PREFIX}{_ALL}.{kind}", self._question(body), reply=inbox)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.survey_seconds):
                    while self._others() - leases:
                        heard.clear()
                        await heard.wait()
        except MessageRejected as error:
            raise Unavailable(str(error)) from error
        finally:
            self._bus.forget_reply(token)
        silent = self._others() - leases
        if silent:
            log.warning("gateways_did_not_answer", question=kind, leases=sorted(silent))
        return Survey(answers, is_complete=not silent and not has_failed)

    def _others(self) -> set[str]:
        return {*self._leases()} - {self._own_lease()}

    def _question(self, body: Mapping[str, Any]) -> bytes:
        return _write({"sender": self.node, "body": body})

    def _hear(self, subject: bytes, payload: bytes, _headers: bytes | None, reply: bytes) -> None:
        asked = _read(_Asked, payload)
        if asked is None or asked.sender == self.node:
            return
        kind = subject.rpartition(b".")[2].decode(errors="replace")
        answer = self._answer_to(kind, asked.body)
        if reply:
            # Who asked has a deadline, if we can't answer.
            with suppress(BusUnavailable, MessageRejected):
                self._bus.send(reply.decode(errors="replace"), answer)

    def _answer_to(self, kind: str, body: Any) -> bytes:
        said: dict[str, Any] = {"node": self.node, "lease": self._own_lease()}
        try:
            handler = self._handlers.get(kind)
            if handler is None:
                raise LookupError(f"no question is called {kind!r}")
            answer = _write(said | {"result": handler(body)})
            if len(answer) > self.limits.max_answer_bytes:
                raise LookupError("the answer is too long")
        except Exception as error:  # whatever it is, it is not for this gateway to stop at
            log.warning("question_not_answered", question=kind, reason=_reason(error))
            return _write(said | {"error": "not answered"})
        return answer


def _write(values: Mapping[str, Any]) -> bytes:
    """In ASCII: half a surrogate pair, which clients may send, passes as it came."""
    return json.dumps(values, separators=(",", ":")).encode()


def _read(model: type[Q], payload: bytes) -> Q | None:
    try:
        return model.model_validate(read_json(payload))
    except ValueError as error:  # pydantic's too
        log.warning("cluster_message_unreadable", reason=_reason(error))
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):  # its text has what was sent
        return ", ".join(str(each["loc"]) for each in error.errors(include_input=False))
    return str(error) or type(error).__name__
