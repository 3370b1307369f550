from shared.sql import migrations
from tests.shared.sql.counting.tables import Base

migrations.run(Base.metadata)
