"""The two clients are one."""

from tools.sync_twin import CLIENT, TWIN, twin_of


def test_the_synchronous_client_is_made_from_the_one_that_is_awaited() -> None:
    assert TWIN.read_text() == twin_of(CLIENT.read_text()), "run: just twin"
