from shared import migrations
from tests.shared.counting.tables import Base

migrations.run(Base.metadata)
