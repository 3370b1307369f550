"""The database's URL as a setting."""

from typing import Annotated

from pydantic import PlainValidator
from pydantic_settings import NoDecode
from sqlalchemy import URL

from hubbub_client.sql.database import database_url, is_in_memory
from hubbub_client.sql.postgres import BadDatabaseUrl


def _of_all_processes(written: str | URL) -> URL:
    url = database_url(written)
    if is_in_memory(url):
        raise BadDatabaseUrl("no process sees another's memory: name a file, sqlite:///file")
    return url


DatabaseUrl = Annotated[URL, PlainValidator(_of_all_processes), NoDecode]
"""A URL is a tuple, so pydantic would expect JSON: hence `NoDecode`."""
