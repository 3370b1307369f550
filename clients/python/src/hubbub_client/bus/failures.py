"""Failed events: what a consumer could not handle is an event itself, so that it is not lost."""

import hashlib

from pydantic import BaseModel

from hubbub_client.contracts.envelope import Envelope
from hubbub_client.events import event_name
from hubbub_client.jetstream.work_queue import Job


class EventFailed(BaseModel):
    """An event that a consumer could not handle, on ``events.<consumer>.event_failed``."""

    consumer: str
    reason: str
    """The exception of the handler, or why the event can't be read."""
    subject: str
    """Where the event was published: ``events.<service>.<name>``."""
    sequence: int
    """Its place in the stream EVENTS, which holds it for as long as any event."""
    deliveries: int
    payload: str
    """The event as it was published; empty if there is no room for it."""


FAILED = event_name(EventFailed).name


def reason_of(error: Exception) -> str:
    """What a handler raised."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # its text is the application's own
        return name


def envelope_of_failure(job: Job, consumer: str, reason: str, *, max_bytes: int) -> Envelope:
    """The event that says so, with the same id each time that it is told."""
    reason = reason.encode(errors="backslashreplace").decode()  # a lone surrogate is no UTF-8
    about = f"{consumer} {job.sequence} {job.stored_at}".encode()
    failure = EventFailed(
        consumer=consumer,
        reason=reason,
        subject=job.subject,
        sequence=job.sequence,
        deliveries=job.deliveries,
        payload=job.payload.decode(errors="backslashreplace"),
    )
    envelope = Envelope.of(failure, event_id=hashlib.sha256(about).hexdigest())
    if len(envelope.model_dump_json().encode()) > max_bytes:
        without = failure.model_copy(update={"payload": ""})
        envelope = Envelope.of(without, event_id=envelope.id)
    return envelope
