"""Answers that are being written: from the model into a channel each, until it ends or is stopped.

Publications of a channel `answers:<id>#<user>`, in this order:

    {"question": "Count to 3"}      the first
    {"text": "1 2 "}                what to add to the answer; a batch of words
    {"end": "finished"}             the last; or "stopped", or "failed"
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

from hubbub_client.contracts.channels import parse_channel
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus, BusUnavailable

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.05
"""For more words to come before one is published."""
MAX_WAITING_WORDS = 1000
"""With as many that are not published, the model waits."""
ANSWER_SECONDS = 600.0
"""For a whole answer; then it is stopped."""
BUS_AWAY_SECONDS = 60.0
"""For one publication to be stored; then the answer is given up."""
RETRY_SECONDS = 0.2
UNSUBSCRIBE_SECONDS = 1.0

Model = Callable[[str], AsyncGenerator[str]]
_END = ""
"""Behind the last word."""


class Answer:
    """One question, and what becomes of it."""

    def __init__(self, question: str, user: str) -> None:
        self.id = secrets.token_hex(8)
        self.question = question
        self.user = user
        self.channel = parse_channel(f"answers:{self.id}#{user}")
        self.waiting = asyncio.Queue[str](MAX_WAITING_WORDS)
        self.is_stopped = False
        """Whether the model had more to say."""
        self._seconds = ANSWER_SECONDS
        self._reading: asyncio.Timeout | None = None

    def stop(self) -> None:
        """Read no more from the model; harmless if that is over."""
        self._seconds = 0.0
        if self._reading is not None:
            with suppress(RuntimeError):  # it is over
                self._reading.reschedule(asyncio.get_running_loop().time())

    async def read(self, model: Model) -> None:
        """Let the words of the model wait to be published."""
        self._reading = asyncio.timeout(self._seconds)
        try:
            async with self._reading, aclosing(model(self.question)) as words:
                async for word in words:
                    if word != _END:
                        await self.waiting.put(word)
        except TimeoutError:
            if not self._reading.expired():
                raise  # the model's own
            self.is_stopped = True
        await self.waiting.put(_END)

    async def batches(self) -> AsyncIterator[str]:
        """What came within `BATCH_SECONDS` each, up to the end."""
        words: list[str] = []
        while _END not in words:
            words = [await self.waiting.get()]
            await asyncio.sleep(BATCH_SECONDS)
            while not self.waiting.empty():
                words.append(self.waiting.get_nowait())
            if any(words):
                yield "".join(words)


class Answers:
    """Those that this process writes."""

    def __init__(self, bus: Bus, publisher: Publisher, model: Model, tasks: asyncio.TaskGroup):
        self._bus = bus
        self._publisher = publisher
        self._model = model
        self._tasks = tasks
        self._written: dict[str, Answer] = {}

    async def begin(self, question: str, user: str) -> Answer:
        """Return once the question is stored; the answer is written in the background.

        Raises:
            BusUnavailable: it may be asked again.
        """
        answer = Answer(question, user)
        await publish(self._publisher, answer.channel, {"question": question})
        self._written[answer.id] = answer
        self._tasks.create_task(self._write(answer))
        return answer

    def stop_all(self) -> None:
        for answer in self._written.values():
            answer.stop()

    async def _write(self, answer: Answer) -> None:
        try:
            await self._publish_all(answer)
        except Exception:  # the other answers go on
            log.exception("answer %s is given up", answer.id)
        finally:
            del self._written[answer.id]

    async def _publish_all(self, answer: Answer) -> None:
        say = partial(self._publish, answer, map(str, count()))
        try:
            async with self._stoppable(answer), asyncio.TaskGroup() as group:
                group.create_task(answer.read(self._model))
                async for text in answer.batches():
                    await say({"text": text})
        except ExceptionGroup:
            await say({"end": "failed"})
            raise
        await say({"end": "stopped" if answer.is_stopped else "finished"})

    async def _publish(self, answer: Answer, keys: Iterator[str], data: dict[str, str]) -> None:
        """One after another, and each once: what is sent again has the same key."""
        key = next(keys)
        async with asyncio.timeout(BUS_AWAY_SECONDS):
            while True:
                try:
                    await publish(self._publisher, answer.channel, data, key=key)
                    return
                except BusUnavailable:
                    await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def _stoppable(self, answer: Answer) -> AsyncGenerator[None]:
        """Hear who stops it: clients call the method `stop_answer.<id>` of their gateway.

        The process that writes the answer is the only one to listen to that. Once nobody does,
        the client is told so at once.
        """

        def hear(_subject: bytes, payload: bytes, _headers: bytes | None, reply: bytes) -> None:
            said = _stopped(answer, payload)
            with suppress(BusUnavailable):  # the client is told that nobody answered
                self._bus.send(reply.decode(), json.dumps(said).encode())

        subscription = await self._bus.subscribe(f"rpc.stop_answer.{answer.id}", hear)
        try:
            yield
        finally:
            await subscription.drain(seconds=UNSUBSCRIBE_SECONDS)


def _stopped(answer: Answer, payload: bytes) -> dict[str, Any]:
    """What the gateway is answered, which says who asks."""
    if json.loads(payload).get("user") != answer.user:
        return {"error": {"code": 403, "message": "another's answer"}}
    answer.stop()
    return {"result": {"data": {}}}


@asynccontextmanager
async def writing(bus: Bus, publisher: Publisher, model: Model) -> AsyncGenerator[Answers]:
    """Answers, each of which has its end when the body is over."""
    async with asyncio.TaskGroup() as tasks:
        answers = Answers(bus, publisher, model, tasks)
        try:
            yield answers
        finally:
            answers.stop_all()
