"""Django's commands for this project."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "examples.django_reports.settings"  # noqa: TID251
    execute_from_command_line(sys.argv)
