from auth_service.tables import Base
from shared.migrations import differences, downgrade, migrate


async def test_the_migrated_database_is_what_the_code_knows(database_url: str) -> None:
    await migrate(database_url, "auth_service")

    assert await differences(database_url, Base.metadata) == []


async def test_migrations_go_up_and_down_and_up_again(database_url: str) -> None:
    await migrate(database_url, "auth_service")
    await downgrade(database_url, "auth_service", "base")
    assert await differences(database_url, Base.metadata) != []

    await migrate(database_url, "auth_service")

    assert await differences(database_url, Base.metadata) == []
