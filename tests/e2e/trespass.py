"""Try subjects of NATS with a service's own credentials; run inside, where the service runs.

    python - <subscribe|publish>=SUBJECT[=PAYLOAD] …

Prints the subjects that were refused, as a JSON list. Fails if NATS does not let it in.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import nats

ANSWER_SECONDS = 15.0
NAME = "trespasser"


def bus_url() -> str:
    given = os.environ.get("HUBBUB_NATS_URL")
    return given or Path(os.environ["HUBBUB_NATS_URL_FILE"]).read_text().strip()


async def main(attempts: list[str]) -> None:
    refused: list[str] = []
    answered = asyncio.Event()

    async def note(error: Exception) -> None:
        refused.extend(
            subject
            for _, subject, *_ in (attempt.split("=", 2) for attempt in attempts)
            if f'"{subject.lower()}"' in str(error).lower()
        )

    async def answer(_message: object) -> None:
        answered.set()

    client = await nats.connect(
        bus_url(), name=NAME, error_cb=note, allow_reconnect=False, connect_timeout=ANSWER_SECONDS
    )
    # The server answers in order, so after this one's refusal there is none to come.
    last = "rt.pub.the-last-one-is-always-refused.>"
    for attempt in attempts:
        verb, subject, *payload = attempt.split("=", 2)
        if verb == "subscribe":
            await client.subscribe(subject, cb=answer)
        else:
            await client.publish(subject, "".join(payload).encode())
    attempts.append(f"subscribe={last}")
    await client.subscribe(last, cb=answer)
    async with asyncio.timeout(ANSWER_SECONDS):
        while last not in refused:  # noqa: ASYNC110 it is told by a callback of nats-py's
            await asyncio.sleep(0.01)
    await client.close()
    refused.remove(last)
    sys.stdout.write(json.dumps(sorted(refused)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
