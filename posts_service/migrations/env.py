"""Run by Alembic for every command."""

from posts_service.tables import Base
from shared.sql import migrations

migrations.run(Base.metadata)
