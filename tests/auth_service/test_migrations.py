from datetime import UTC, datetime

from sqlalchemy import select

from auth_service.tables import Base, UserRow
from hubbub_client.sql.database import connect_database, transaction
from shared.sql.migrations import differences, downgrade, migrate


async def test_the_migrated_database_is_what_the_code_knows(database_url: str) -> None:
    await migrate(database_url, "auth_service")

    assert await differences(database_url, Base.metadata) == []


async def test_migrations_go_up_and_down_and_up_again(database_url: str) -> None:
    await migrate(database_url, "auth_service")
    await downgrade(database_url, "auth_service", "base")
    assert await differences(database_url, Base.metadata) != []

    await migrate(database_url, "auth_service")

    assert await differences(database_url, Base.metadata) == []


async def test_keys_of_emails_are_made_anew_and_every_account_is_kept(database_url: str) -> None:
    """The first two are one email in two cases, as the keys were made once."""
    accounts = {"ΐ@example.com": "ΐ@example.com".casefold(), "Ϊ́@example.com": "ΐ@example.com"}
    accounts |= {"Ann@example.com": "ann@example.com", "Ǆ@example.com": "ǆ@example.com"}
    await migrate(database_url, "auth_service")
    await downgrade(database_url, "auth_service", "0002")
    async with connect_database(database_url) as sessions:
        async with transaction(sessions) as db:
            for email, key in accounts.items():
                user = UserRow(email=email, email_key=key, name="A", password_hash="x")
                user.created_at = datetime.now(UTC)
                db.add(user)
                await db.flush()

        await migrate(database_url, "auth_service")

        async with transaction(sessions, read_only=True) as db:
            users = list(await db.scalars(select(UserRow).order_by(UserRow.id)))
        assert {user.email: user.email_key for user in users} == accounts | {
            "ΐ@example.com": "ΐ@example.com"
        }
        await downgrade(database_url, "auth_service", "0002")
        async with transaction(sessions, read_only=True) as db:
            users = list(await db.scalars(select(UserRow).order_by(UserRow.id)))
        assert {user.email: user.email_key for user in users} == accounts
