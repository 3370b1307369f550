"""The services in one process, as `up` puts them together."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from auth_service.settings import AuthSettings
from auth_service.signing import make_signing_key
from gateway.settings import GatewaySettings
from hubbub.system import Settings, prepare_databases, running_system
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import connect_bus
from posts_service.settings import PostsSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.supervision import Supervisor
from shared.tokens.revocations import REVOCATIONS_COMPLETE_SUBJECT, RevocationsComplete
from tests.fixtures.nats import StartServer
from tests.fixtures.waiting import eventually


async def test_a_word_that_was_on_the_bus_before_lets_nobody_in_before_the_auth_service_has_looked(
    nats_server: StartServer, tmp_path: Path
) -> None:
    """A backup holds such a word too; here the auth service does not reach its bus."""
    url = nats_server().url
    away = nats_server()
    away.stop()
    make_signing_key(tmp_path / "key.pem")
    auth, posts = (f"sqlite+aiosqlite:///{tmp_path / name}" for name in ("auth", "posts"))
    settings = Settings(
        auth=AuthSettings(
            nats_url=away.url,
            database_url=auth,
            signing_key=(tmp_path / "key.pem").read_text(),
        ),
        posts=PostsSettings(nats_url=url, database_url=posts, await_auth_service=True),
        gateway=GatewaySettings(nats_url=url, await_auth_service=True),
    )
    await prepare_databases(settings)
    async with connect_bus(url, name="earlier") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        word = RevocationsComplete(epoch=(await StreamReader(bus, "CTL").state()).epoch)
        await publisher.publish(
            REVOCATIONS_COMPLETE_SUBJECT, word.model_dump_json().encode(), message_id="word"
        )
    registry = CollectorRegistry()
    async with running_system(
        settings, registry=registry, supervisor=Supervisor(registry)
    ) as system:
        waits = [
            "the revocations were never all known",
            "the auth service has yet to compare the bus with its database: it may have been"
            " restored from a backup",
        ]
        await eventually(lambda: system.ready() == waits)

        away.start()
        async with connect_bus(away.url, name="bootstrap") as bus:
            await bootstrap(bus)
        await eventually(lambda: system.auth.complete_at() is not None)
        assert system.ready() == waits  # it is of another life of the stream
