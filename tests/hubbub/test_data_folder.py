import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hubbub.data_folder import DataFolder, DataFolderInUse, Running, take_lock, write_private
from hubbub.errors import CommandFailed
from posts_service.settings import PostsSettings
from shared.sql.migrations import migrate

RUNNING = Running(pid=4711, url="http://127.0.0.1:8000", nats_url="nats://127.0.0.1:4222")

HOLDER = """
import sys
from pathlib import Path
from hubbub.data_folder import DataFolder

folder = DataFolder(Path(sys.argv[1]))
with folder.locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.create()
    return folder


def test_a_second_user_of_a_folder_is_told_who_has_it(folder: DataFolder) -> None:
    with (
        folder.locked(),
        folder.announced(RUNNING, bus_urls={}),
        pytest.raises(DataFolderInUse, match=r"in use by process 4711 \(http://127.0.0.1:8000\)"),
        DataFolder(folder.path).locked(),
    ):
        pass


def test_the_lock_goes_with_the_process_however_it_ends(folder: DataFolder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataFolderInUse), folder.locked():
            pass
        holder.kill()
        holder.wait(timeout=30)

    with folder.locked():
        pass


def test_a_lock_is_held_until_the_last_copy_of_it_is_closed(tmp_path: Path) -> None:
    first = take_lock(tmp_path / "lock")
    assert first is not None
    copy = os.dup(first)
    os.close(first)

    assert take_lock(tmp_path / "lock") is None
    os.close(copy)
    second = take_lock(tmp_path / "lock")
    assert second is not None
    os.close(second)


def test_keys_are_for_the_owners_eyes_and_stay_the_same(folder: DataFolder) -> None:
    first = folder.api_key_file.read_text().strip()
    again = DataFolder(folder.path).api_key_file

    assert len(first) >= 32
    assert again.read_text().strip() == first
    assert stat.S_IMODE(again.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("left", [b"", b"\n", b" \r\n"])
def test_a_key_that_was_not_written_to_its_end_is_made_anew(
    folder: DataFolder, left: bytes
) -> None:
    (folder.path / "api_key").write_bytes(left)

    assert len(folder.api_key_file.read_text().strip()) >= 32


def test_who_waits_for_a_folder_is_not_told_of_one_that_was_killed(folder: DataFolder) -> None:
    (folder.path / "running.json").write_text(RUNNING.model_dump_json())

    with folder.locked():
        assert folder.is_in_use
        assert folder.running() is None
        with pytest.raises(DataFolderInUse, match=r"is in use$"), folder.locked():
            pass
    assert not folder.is_in_use


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"old and long")
    write_private(tmp_path / "key", b"new")

    assert (tmp_path / "key").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def test_what_runs_is_found_while_it_runs(folder: DataFolder) -> None:
    with folder.announced(RUNNING, bus_urls={"operator": "nats://operator:s@127.0.0.1:4222"}):
        found = DataFolder(folder.path)
        file = found.bus_url_file("operator")

        assert found.running() == RUNNING
        assert file.read_text().strip() == "nats://operator:s@127.0.0.1:4222"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    assert folder.running() is None
    assert not file.exists()


def test_git_leaves_it_alone_but_not_what_else_is_in_a_folder_of_somebody_else(
    folder: DataFolder, tmp_path: Path
) -> None:
    (tmp_path / "app.py").touch()

    DataFolder(tmp_path).create()

    assert (folder.path / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / ".gitignore").exists()


def test_an_unreadable_announcement_is_none(folder: DataFolder) -> None:
    (folder.path / "running.json").write_text("{")

    assert folder.running() is None


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandFailed, match=r"cannot make .*: Not a directory"):
        DataFolder(tmp_path / "file" / "data").create()


def written_in(folder: Path) -> list[str]:
    """The visible files that are not empty."""
    return [file.name for file in folder.glob("[!.]*") if file.stat().st_size]


async def test_the_databases_are_in_the_folder_whatever_its_name(
    tmp_path: Path, folder_name: str
) -> None:
    folder = DataFolder(tmp_path / folder_name)
    folder.create()
    settings = PostsSettings(database_url=folder.database_url("posts"))

    await migrate(settings.database_url, "posts_service")

    assert written_in(folder.path) == ["posts.sqlite3"]
