"""The application's own users and their orders, in a file that its processes share."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from werkzeug.security import check_password_hash, generate_password_hash

SCHEMA = """
create table if not exists users (
    id text primary key, name text not null unique, password_hash text not null
);
create table if not exists orders (
    number integer primary key, user_id text not null references users (id),
    item text not null, is_shipped integer not null default 0
);
"""


class NameTaken(Exception):
    """Somebody has that name already."""


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    user_id: str
    item: str
    is_shipped: bool


class Store:
    """One connection. What is written counts from the end of `transaction` on."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database:
            yield

    def add_user(self, name: str, password: str) -> User:
        """
        Raises:
            NameTaken: by somebody else.
        """
        user = User(str(uuid4()), name)
        row = (user.id, name, generate_password_hash(password))
        try:
            self._database.execute("insert into users values (?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise NameTaken(name) from error
        return user

    def signed_in(self, name: str, password: str) -> User | None:
        found = self._database.execute(
            "select id, password_hash from users where name = ?", (name,)
        ).fetchone()
        if found is None or not check_password_hash(found[1], password):
            return None
        return User(found[0], name)

    def user(self, user_id: str) -> User | None:
        found = self._database.execute("select id, name from users where id = ?", (user_id,))
        row = found.fetchone()
        return User(*row) if row else None

    def add_order(self, user: User, item: str) -> Order:
        added = self._database.execute(
            "insert into orders (user_id, item) values (?, ?)", (user.id, item)
        )
        assert added.lastrowid is not None
        return Order(added.lastrowid, user.id, item, is_shipped=False)

    def ship(self, number: int) -> Order | None:
        """The order, or None if there is no such order, or it was shipped before."""
        found = self._database.execute(
            "update orders set is_shipped = 1 where number = ? and not is_shipped"
            " returning number, user_id, item",
            (number,),
        ).fetchone()
        if found is None:
            return None
        number, user_id, item = found
        return Order(number, user_id, item, is_shipped=True)

    def orders_of(self, user: User) -> list[Order]:
        rows = self._database.execute(
            "select number, user_id, item, is_shipped from orders where user_id = ? order by 1",
            (user.id,),
        )
        return [Order(number, by, item, bool(shipped)) for number, by, item, shipped in rows]

    def close(self) -> None:
        self._database.close()
