"""The database's URL as a setting."""

from typing import Annotated

from pydantic import PlainValidator
from pydantic_settings import NoDecode
from sqlalchemy import URL

from hubbub_client.sql.database import database_url

DatabaseUrl = Annotated[URL, PlainValidator(database_url), NoDecode]
"""A URL is a tuple, so pydantic would expect JSON: hence `NoDecode`."""
