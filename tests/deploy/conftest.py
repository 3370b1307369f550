"""Secrets as an operator makes them."""

from pathlib import Path

import pytest

from deploy.secrets.make_secrets import Store, make_secrets


@pytest.fixture(scope="session")
def secrets_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh secrets, a folder for each container."""
    folder = tmp_path_factory.mktemp("secrets")
    for owner in ("auth", "posts", "gateway", "bootstrap", "operator", "nats", "postgres"):
        (folder / owner).mkdir()
    store = Store(folder, folder / "given")
    make_secrets(store, nats=["nats:4222"], postgres="postgres:5432", tls=False)
    return folder
