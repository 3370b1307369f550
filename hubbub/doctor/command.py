"""The command: looks at everything there is, and says it."""

import asyncio
from pathlib import Path

import click
from sqlalchemy import URL

from hubbub.doctor.bus import look_at_bus
from hubbub.doctor.databases import look_at_database
from hubbub.doctor.findings import Finding, Level, as_json, as_lines, bad, worst_of
from hubbub.doctor.here import look_here
from hubbub.doctor.services import look_at_keys, look_at_services
from hubbub.doctor.subject import Subject, subject_of
from hubbub_client.jetstream.clock import Clock, our_clock
from shared.runtime.environment import WrongSettings
from shared.runtime.telemetry import configure_logging


def run_doctor(
    *, service: str | None, data: Path | None, urls: tuple[str, ...], json: bool
) -> bool:
    """Look, and print what was found; return whether all of it works."""
    configure_logging("CRITICAL", json=False)
    try:
        findings = asyncio.run(examined(subject_of(service, data, urls)))
    except WrongSettings as wrong:
        todo = "correct it; `hubbub check-config` looks at all of them"
        findings = [bad("settings", problem, todo) for problem in wrong.problems]
    click.echo(as_json(findings) if json else "\n".join(as_lines(findings)))
    return worst_of(findings) is not Level.ERROR


async def _database(subject: Subject, service: str, url: URL) -> Finding:
    if subject.folder is None:
        migrate = f"hubbub migrate --service {service}"
        mend = f"see that HUBBUB_DATABASE_URL names the one of {service}, and that it can be used"
    else:
        migrate = f"hubbub migrate --data {subject.folder.path}"
        mend = (
            "see that `hubbub up` may use the file, and put it back from a backup if it is damaged"
        )
    return await look_at_database(service, url, migrate=migrate, mend=mend)


async def examined(subject: Subject, *, now: Clock = our_clock) -> list[Finding]:
    """What can be found out about it, in a few seconds, whatever of it is away."""
    async with asyncio.TaskGroup() as group:
        bus = subject.bus and group.create_task(look_at_bus(subject.bus, subject.settings, now=now))
        databases = [
            group.create_task(_database(subject, name, url))
            for name, url in subject.databases.items()
        ]
        services = group.create_task(look_at_services(subject.services))
        keys = group.create_task(look_at_keys(subject.settings))
    return [
        *look_here(subject),
        *keys.result(),
        *(bus.result() if bus else ()),
        *(each.result() for each in databases),
        *services.result(),
    ]
