"""Migrates the database of a URL, as processes of one service do that start together."""

import asyncio
import sys

from shared.sql.migrations import migrate

asyncio.run(migrate(sys.argv[1], "tests.shared.sql.counting"))
