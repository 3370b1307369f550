"""`python -m examples.top_posts`"""

import asyncio
import logging

from examples.top_posts.service import Settings, serve

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
asyncio.run(serve(Settings()))
