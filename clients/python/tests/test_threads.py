"""One client in many threads, each with event loops of its own."""

import asyncio
import json
import threading

import httpx2

from hubbub_client import Hubbub


def test_a_thread_publishes_while_another_looks_for_loops_that_have_ended() -> None:
    published: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        published.append(json.loads(request.content)["data"])
        return httpx2.Response(200, json={"result": {"offset": 1, "epoch": "e"}})

    hubbub = Hubbub("http://gateway", "key", transport=httpx2.MockTransport(answer))

    def publish(data: int) -> None:
        asyncio.run(hubbub.publish("chat:a", data))

    class Watched(asyncio.SelectorEventLoop):
        """When somebody looks at it, another thread publishes first."""

        is_watched = False

        def is_closed(self) -> bool:
            if self.is_watched:
                self.is_watched = False
                thread = threading.Thread(target=publish, args=[3])
                thread.start()
                thread.join()
            return super().is_closed()

    loop = Watched()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(hubbub.publish("chat:a", 1))
    loop.is_watched = True
    publish(2)

    assert sorted(published) == [1, 2, 3]
