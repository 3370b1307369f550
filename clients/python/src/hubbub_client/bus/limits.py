"""The limits of a consumer of events."""

import random
from dataclasses import dataclass

from hubbub_client.jetstream.work_queue import WorkQueueLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLimits:
    """How much is handled at a time, how often it is tried, and how long all of it may take."""

    max_handlers: int = 10
    """Handlers at the same time in this process."""
    handler_seconds: float = 300.0
    """After which a handler is cancelled, and has failed."""
    max_deliveries: int = 20
    """Of an event; then it is a failed event. With these pauses that is after about two hours."""
    first_pause_seconds: float = 1.0
    """Before an event comes again; each pause is twice as long as the one before it."""
    longest_pause_seconds: float = 600.0
    stop_seconds: float = 10.0
    """For handlers under way at the stop. Keep it below the orchestrator's kill timeout."""
    ack_wait_seconds: float = 30.0
    """After which the events of a process that died are given to another one."""
    max_unsettled: int = 1000
    """Events of all processes that are being handled, or are to come again after a pause. With so
    many no others come, so what may fail by itself needs a consumer of its own."""
    forget_seconds: float = 30 * 24 * 3600.0
    """Without any process of that name, after which the bus forgets how far it was."""
    publish_seconds: float = 10.0
    """For storing a failed event."""
    retry_seconds: float = 0.5
    """After no answer from the bus."""
    look_seconds: float = 30.0
    """Between two looks how far the consumer is, where a new one begins if it is lost; and whether
    the bus gives it all that is handled."""
    max_reason_chars: int = 500
    """Of what a failed event says about the failure."""
    wait_seconds: float = 5.0
    """How long a request for events stays with the bus, before there is another."""

    @property
    def queue(self) -> WorkQueueLimits:
        """Progress is reported well before the ack wait ends."""
        return WorkQueueLimits(
            wait_seconds=self.wait_seconds, progress_seconds=self.ack_wait_seconds / 3
        )

    def pause_seconds(self, deliveries: int) -> float:
        """Before the next delivery, not the same for all that failed at the same moment."""
        doubled = self.first_pause_seconds * 2.0 ** min(deliveries - 1, 30)
        return min(doubled, self.longest_pause_seconds) * random.uniform(0.5, 1.0)
