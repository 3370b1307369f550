"""What the posts service reads from its environment."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.database import DatabaseUrl
from shared.settings import Seconds, ServiceSettings


class PostsSettings(ServiceSettings):
    """Units are in the names."""

    model_config = SettingsConfigDict(env_prefix="HUBBUB_POSTS_")

    database_url: DatabaseUrl = Field(validation_alias="HUBBUB_DATABASE_URL")
    like_notice_seconds: Seconds = 86_400
    """Liking, unliking and liking again notifies the author once in this time."""

    @property
    def like_notice_interval(self) -> timedelta:
        return timedelta(seconds=self.like_notice_seconds)
