"""Durable consumers: made once, and brought up to their configuration later."""

from collections.abc import Awaitable, Callable
from enum import Enum

from hubbub_client.jetstream.api import Config, ConsumerInfo, JetStreamApi


class Ensured(Enum):
    """What had to be done."""

    NOTHING = "nothing"
    CREATED = "created"
    UPDATED = "updated"


async def ensure_consumer(
    api: JetStreamApi,
    stream: str,
    config: Config,
    *,
    found: ConsumerInfo | None,
    beginning: Callable[[], Awaitable[Config]],
) -> Ensured:
    """Make the consumer, or change it to the configuration.

    Args:
        config: All but where it begins.
        found: What there is of it.
        beginning: Where a new one begins, which can't be changed later.
    """
    begins = await beginning() if found is None else found.config
    wanted = {
        **config,
        "deliver_policy": begins["deliver_policy"],
        **({"opt_start_seq": begins["opt_start_seq"]} if "opt_start_seq" in begins else {}),
    }
    if found is None:
        await api.create_consumer(stream, wanted)
        return Ensured.CREATED
    if wanted.items() <= found.config.items():
        return Ensured.NOTHING
    await api.create_consumer(stream, wanted)
    return Ensured.UPDATED
