"""Secrets as an operator makes them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.secrets.make_secrets import main


@pytest.fixture(scope="session")
def secrets_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh secrets, a folder for each container."""
    folder = tmp_path_factory.mktemp("example") / "secrets"
    run = CliRunner().invoke(main, ["--folder", str(folder)], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return folder
