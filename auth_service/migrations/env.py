"""Run by Alembic for every command."""

from auth_service.tables import Base
from shared.sql import migrations

migrations.run(Base.metadata)
