"""What the posts service reads from its environment."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import Count, Rate, Seconds, ServiceSettings
from shared.sql.settings import DatabaseUrl


class PostsSettings(ServiceSettings):
    """Units are in the names."""

    model_config = SettingsConfigDict(env_prefix="HUBBUB_POSTS_")

    database_url: DatabaseUrl = Field(validation_alias="HUBBUB_DATABASE_URL")
    like_notice_seconds: Seconds = 86_400
    """An author is notified of the same user's like once in this time."""
    user_units_per_second: Rate = 50
    """Of one user in this process, in the long run; 0 is no limit."""
    user_burst: Count = 1000
    """Units that one user may spend at once."""
    max_user_buckets: Count = 50_000
    """Of users who were active within `2 * user_burst / user_units_per_second`, 0.2 KiB each; with
    more, the buckets of those who were active longest ago are full again."""

    @property
    def like_notice_interval(self) -> timedelta:
        return timedelta(seconds=self.like_notice_seconds)
