"""`manage.py work`: the worker, a process of its own."""

import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from examples.django_reports.models import Report

PAUSE_SECONDS = 0.2
"""Until it looks again for something to do."""
WORK_SECONDS = 1.0
"""For one report, as if there was something to it."""


class Command(BaseCommand):
    help = "Make the reports that were asked for, one after another."

    def handle(self, *args: Any, **options: Any) -> None:
        while True:
            report = begin()
            if report is None:
                time.sleep(PAUSE_SECONDS)
            else:
                time.sleep(WORK_SECONDS)
                finish(report)


@transaction.atomic
def begin() -> Report | None:
    """Take the report that waits longest, if any does; no other worker gets it then."""
    report = Report.objects.filter(state=Report.State.ASKED).order_by("pk").first()
    if report is not None:
        change(report, Report.State.BEGUN)
    return report


@transaction.atomic
def finish(report: Report) -> None:
    change(report, Report.State.READY)


def change(report: Report, state: Report.State) -> None:
    report.state = state
    report.save()
    report.tell()
