"""A shop: who has ordered something sees on the page how it goes on."""

import logging
from dataclasses import asdict
from pathlib import Path

import click
from flask import Flask, abort, flash, g, redirect, render_template, request, send_file, session
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from examples.flask_orders.store import NameTaken, Order, Store, User
from hubbub_client import HubbubError, SyncHubbub
from hubbub_client.tokens import connection_token

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
BUNDLE = Path("node_modules/centrifuge/dist/centrifuge.js")


class OrderPlaced(BaseModel):
    number: int
    item: str


class OrderShipped(BaseModel):
    number: int
    item: str


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        DATABASE="orders.sqlite3",
        GATEWAY="127.0.0.1:8000",  # where we find it, and so do browsers
        SDK=str(FOLDER / BUNDLE),
        SESSION_COOKIE_SAMESITE="Lax",  # other sites can't post for who is signed in
    )
    app.config.from_prefixed_env("HUBBUB")  # API_KEY and HMAC_SECRET, which the gateway knows too
    app.config.from_prefixed_env("FLASK")
    gateway = app.config["GATEWAY"]
    # One for all threads; the processes of the server make connections of their own with it.
    hubbub = SyncHubbub(f"http://{gateway}", app.config["API_KEY"])

    def the_store() -> Store:
        if "store" not in g:
            g.store = Store(app.config["DATABASE"])
        store: Store = g.store
        return store

    @app.teardown_appcontext
    def close(_error: BaseException | None) -> None:
        if "store" in g:
            g.store.close()

    def signed_in() -> User | None:
        return the_store().user(session["user"]) if "user" in session else None

    def tell(order: Order, event: OrderPlaced | OrderShipped) -> None:
        """After the commit: nobody hears of what is not so."""
        try:
            hubbub.notify(order.user_id, event)
        except HubbubError as error:  # it is so all the same
            log.warning("order %d is not told: %s", order.number, error)

    @app.get("/")
    def page() -> str:
        return render_template("page.html", me=signed_in())

    @app.get("/centrifuge.js")
    def sdk() -> ResponseReturnValue:
        return send_file(app.config["SDK"])

    @app.post("/sign-up")
    def sign_up() -> ResponseReturnValue:
        name, password = request.form["name"], request.form["password"]
        try:
            with the_store().transaction():
                session["user"] = the_store().add_user(name, password).id
        except NameTaken:
            flash("that name is taken")
        return redirect("/")

    @app.post("/sign-in")
    def sign_in() -> ResponseReturnValue:
        user = the_store().signed_in(request.form["name"], request.form["password"])
        if user is None:
            flash("wrong name or password")
        else:
            session["user"] = user.id
        return redirect("/")

    @app.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        session.clear()
        return redirect("/")

    @app.get("/realtime")
    def realtime() -> ResponseReturnValue:
        """What a page connects with."""
        me = signed_in() or abort(403)
        token = connection_token(me.id, name=me.name, secret=app.config["HMAC_SECRET"])
        return {"url": f"ws://{gateway}/connection/websocket", "token": token}

    @app.get("/orders")
    def orders() -> ResponseReturnValue:
        me = signed_in() or abort(403)
        return [asdict(order) for order in the_store().orders_of(me)]

    @app.post("/orders")
    def place() -> ResponseReturnValue:
        me = signed_in() or abort(403)
        with the_store().transaction():
            order = the_store().add_order(me, request.form["item"])
        tell(order, OrderPlaced(number=order.number, item=order.item))
        return redirect("/")

    @app.cli.command("ship")
    @click.argument("number", type=int)
    def ship(number: int) -> None:
        """Ship an order; for the warehouse."""
        with the_store().transaction():
            order = the_store().ship(number)
        if order is None:
            raise click.ClickException("there is no such order that is still to be shipped")
        tell(order, OrderShipped(number=order.number, item=order.item))

    return app
