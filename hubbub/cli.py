"""The command line. Each command imports what it needs, so that `--version` is quick."""

import codecs
import gc
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click

from hubbub.errors import CommandFailed
from shared.runtime.locale import as_utf8

SERVICES = ("auth", "posts", "gateway")
MAX_GATEWAYS = 64
"""Processes of one command; each receives every publication."""
_STDERR = 2
"""The last descriptor of the standard streams."""


class Text(click.ParamType[str]):
    """An argument, decoded as UTF-8 if the locale can't decode it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return as_utf8(str(value))
        except UnicodeDecodeError:
            self.fail("not in UTF-8", param, ctx)


class Folder(click.Path):
    """A folder; an empty name, as of a variable that is not set, would be the current one."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("empty", param, ctx)
        return super().convert(value, param, ctx)


_text = Text()
_data = click.option(
    "--data",
    type=Folder(path_type=Path, file_okay=False),
    help="Data folder of `hubbub up`.",
    show_default=".hubbub",
)
_nats = click.option("--nats", metavar="URL", help="A NATS server, instead of a data folder's.")
_host = click.option("--host", default="127.0.0.1", show_default=True)
_port = click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
_service = click.Choice(SERVICES)
_gateways = click.IntRange(1, MAX_GATEWAYS)


class Commands(click.Group):
    """Shows failures that an operator can fix as one line, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from hubbub.failures import as_sentence  # it imports much

            sentence = as_sentence(error)
            if sentence is None:
                raise
            raise CommandFailed(sentence) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hubbub", prog_name="hubbub")
def cli() -> None:
    """Hubbub: chat, notifications and presence over NATS JetStream."""


@cli.command()
@_host
@_port
@_data
@click.option("--gateways", type=_gateways, default=1, show_default=True)
def up(host: str, port: int, data: Path | None, gateways: int) -> None:
    """Run the whole system; further gateways are on the next ports."""
    from hubbub.data_folder import DEFAULT_PATH, DataFolder
    from hubbub.nats_binary import server_binary
    from hubbub.progress import saying
    from hubbub.stop_early import exit_on_stop_signals

    exit_on_stop_signals()
    server_binary()  # if there is none, say so before anything is loaded or written
    data = data or DEFAULT_PATH
    if not DataFolder(data).is_in_use:  # if it is, the port is probably taken too
        _expect_free(host, port, gateways)
    with saying("loading"):
        from hubbub.up import UpOptions, run_up

    run_up(UpOptions(host=host, port=port, data=data, gateways=gateways))


def _expect_free(host: str, port: int, count: int = 1) -> None:
    """Report a taken port now, as the services take a while to load."""
    from shared.runtime.listening import CannotListen, listen

    try:
        for each in range(port, port + count) if port else ():
            listen(host, each).close()
    except CannotListen as error:
        raise CommandFailed(str(error)) from error


def _serve(service: str) -> None:
    @cli.command(service, help=f"Run the {service} service from environment settings.")
    @_host
    @_port
    def serve(host: str, port: int) -> None:
        from hubbub.stop_early import exit_on_stop_signals

        exit_on_stop_signals()
        _expect_free(host, port)
        from hubbub.serve import serve_service

        serve_service(service, host, port)


for _name in ("auth", "posts"):
    _serve(_name)


@cli.command()
@_host
@_port
@click.option("--workers", type=_gateways, default=1, show_default=True)
@click.option("--child", is_flag=True, hidden=True)
@click.option("--console", is_flag=True, hidden=True)
@click.option("--worker", type=click.Path(path_type=Path), hidden=True)
def gateway(
    host: str, port: int, workers: int, child: bool, console: bool, worker: Path | None
) -> None:
    """Run a gateway, or several workers on one port, from environment settings."""
    from hubbub.stop_early import exit_on_stop_signals

    exit_on_stop_signals()
    if child:
        from hubbub.serve import serve_child

        serve_child(host, port, worker=worker, console=console)
        return
    _expect_free(host, port)
    if workers == 1:
        from hubbub.serve import serve_service

        serve_service("gateway", host, port)
    else:
        from hubbub.workers import run_workers

        run_workers(host, port, workers)


@cli.command()
@_host
@_port
@click.option("--path", default="/readyz", show_default=True)
def health(host: str, port: int, path: str) -> None:
    """Check that a service answers 200, and say why not: for a container's health check."""
    from hubbub.health import reason_against

    reason = reason_against(host, port, path)
    if reason is not None:
        click.echo(reason, err=True)
        sys.exit(1)


@cli.command()
@click.option("--service", type=click.Choice(["auth", "posts"]))
@_data
def migrate(service: str | None, data: Path | None) -> None:
    """Migrate databases to the newest revision.

    The one at HUBBUB_DATABASE_URL, whose service --service names; else those of a data folder.
    """
    from hubbub.migrate import migrate_databases
    from shared.runtime.process import run

    run(migrate_databases(service=service, data=data))


@cli.command()
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True)
@click.option("--watch", is_flag=True, help="Stay, and create again what is deleted or lost.")
@click.option("--restored", is_flag=True, help="NATS was restored from a backup.")
@_data
@_nats
def bootstrap(
    replicas: int, data: Path | None, nats: str | None, watch: bool, restored: bool
) -> None:
    """Create or update the streams on NATS."""
    from hubbub.bootstrap import bootstrap_streams
    from shared.runtime.process import run

    run(bootstrap_streams(replicas=replicas, data=data, nats=nats, watch=watch, restored=restored))


@cli.command()
@click.argument("channel", type=_text)
@click.argument("json", type=_text, required=False)
@click.option("--key", type=_text, help="The same key in the same channel is stored once.")
@_data
@_nats
def publish(
    channel: str, json: str | None, key: str | None, data: Path | None, nats: str | None
) -> None:
    """Publish JSON into CHANNEL.

    With "-" alone: lines of {"channel", "data"} and maybe a "key" on standard input.
    """
    from hubbub.publish import run_publish

    if (channel == "-") is (json is not None):
        raise click.UsageError("give CHANNEL and JSON, or - alone")
    if not run_publish(channel, json, key=key, data=data, nats=nats):
        sys.exit(1)


@cli.command()
@click.argument("channel", type=_text)
@click.option("--from-start", is_flag=True, help="Begin with what the stream still holds.")
@_data
@_nats
def tail(channel: str, from_start: bool, data: Path | None, nats: str | None) -> None:
    """Print every publication of CHANNEL, a JSON line each."""
    from hubbub.tail import run_tail

    run_tail(channel, from_start=from_start, data=data, nats=nats)


@cli.command()
@click.option("--user", type=_text, required=True, metavar="ID")
@click.option("--name", type=_text, help="How others see the user.")
@click.option("--seconds", type=click.IntRange(min=1), default=3600, show_default=True)
@_data
def token(user: str, name: str | None, seconds: int, data: Path | None) -> None:
    """Print an access token.

    Signed by the key of a data folder, or with HUBBUB_HMAC_SECRET.
    """
    from hubbub.make_token import make_token

    click.echo(make_token(user, name=name, seconds=seconds, data=data))


@cli.command("check-token")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@_data
def check_token(file: Path | None, data: Path | None) -> None:
    """Tell whether a token would be taken, or why not.

    It is read from FILE or standard input. Whose tokens are taken is said by the environment,
    or by a data folder's key; whether its session was ended is not looked up.
    """
    from hubbub.check_token import check_token

    click.echo(check_token(file, data=data))


@cli.command("check-config")
@click.argument("service", type=_service, required=False)
def check_config(service: str | None) -> None:
    """Check the environment's settings, of one SERVICE or of all."""
    from hubbub.check_config import problems_of, warnings_of

    failed = False
    for name in [service] if service else SERVICES:
        problems = problems_of(name)
        failed = failed or bool(problems)
        for problem in problems:
            click.echo(f"{name}: {problem}", err=True)
        if not problems:
            for warning in warnings_of(name):
                click.echo(f"{name}: warning: {warning}", err=True)
            click.echo(f"{name}: ok")
    if failed:
        sys.exit(1)


@cli.command()
@click.option("--service", type=_service, help="Whose settings the environment has.")
@_data
@click.option("--url", "urls", multiple=True, metavar="URL", help="A service to ask, too.")
@click.option("--json", is_flag=True, help="For machines.")
def doctor(service: str | None, data: Path | None, urls: tuple[str, ...], json: bool) -> None:
    """Look at a running system, and say what is wrong and what to do about it.

    It is the one of a data folder, or the one that the environment describes as for a service.
    """
    from hubbub.doctor.command import run_doctor

    if not run_doctor(service=service, data=data, urls=urls, json=json):
        sys.exit(1)


def _replace_closed_streams() -> None:
    """Let standard streams that are closed, as some daemons start processes, lead to nowhere.

    Else the first sockets got their numbers, and libuv aborts when it closes one of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # children need them as much
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - to the end


def _never_fail_for_a_character(stream: TextIOWrapper) -> None:
    """Without a locale Python chooses ASCII, though the terminal nearly always takes UTF-8."""
    encoding = codecs.lookup(stream.encoding).name
    stream.reconfigure(encoding="utf-8" if encoding == "ascii" else None, errors="backslashreplace")


def main() -> NoReturn:
    """The `hubbub` script."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            _never_fail_for_a_character(stream)
    gc.disable()  # `run` enables it: looking for cycles took a quarter of what loading takes
    cli()
    raise AssertionError("click exits by itself")
