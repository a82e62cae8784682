"""How a credentials file is followed, whatever the disk that it is on does."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_server.identity import followed_users as module
from api_server.identity.credentials_file import CredentialsFileError, ReadFile, UnreadFileError, User, read_credentials
from api_server.identity.followed_users import FollowedUsers
from structlog.testing import capture_logs

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0"


class Disk:
    """Reads files, as often and as slowly as a test says, and fails where it says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.reads = 0
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()

    def clock(self) -> float:
        return self.time

    def __call__(self, path: Path) -> ReadFile:
        self.reads += 1
        self.answers.wait(10)
        if self.fails:
            raise UnreadFileError(os.strerror(errno.EMFILE))
        return read_credentials(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    write(path, "ada", "eve")
    return path


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module, "read_credentials", disk)
    return disk


@pytest.fixture
async def followed(file: Path, disk: Disk) -> AsyncIterator[FollowedUsers]:
    followed = FollowedUsers(file, disk.clock)
    yield followed
    await followed.aclose()
    disk.answers.set()


def write(path: Path, *names: str) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{User(name, HASH).line}\n" for name in names))


def replace_by_nonsense(path: Path) -> None:
    path.write_text("nonsense")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


async def look(followed: FollowedUsers, disk: Disk) -> None:
    disk.time += 1
    await followed.look()


async def test_a_removed_user_is_gone_after_a_read_that_failed_once(
    followed: FollowedUsers, disk: Disk, file: Path
) -> None:
    write(file, "ada")
    disk.fails = True
    with capture_logs() as lines:
        for _ in range(3):
            await look(followed, disk)
    assert followed.users.keys() == {"ada", "eve"}
    assert [line["log_level"] for line in lines] == ["error"]
    disk.fails = False
    await look(followed, disk)
    assert followed.users.keys() == {"ada"}


async def test_what_was_wrong_is_not_read_again_until_it_is_another(
    followed: FollowedUsers, disk: Disk, file: Path
) -> None:
    replace_by_nonsense(file)
    for _ in range(3):
        await look(followed, disk)
    assert disk.reads == 2
    assert followed.users.keys() == {"ada", "eve"}


async def test_nobody_waits_for_a_disk_that_hangs(followed: FollowedUsers, disk: Disk, file: Path) -> None:
    write(file, "ada")
    disk.answers.clear()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with capture_logs() as lines:
        await asyncio.gather(*(look(followed, disk) for _ in range(100)))
        assert 0.2 < loop.time() - begun < 2
        begun = loop.time()
        for _ in range(100):
            await look(followed, disk)
        assert loop.time() - begun < 0.1
    assert disk.reads == 2
    assert [line["reason"] for line in lines] == ["it is not read within a quarter of a second"]
    disk.answers.set()
    async with asyncio.timeout(5):
        while "eve" in followed.users:
            await asyncio.sleep(0.001)


async def test_closing_waits_for_no_disk(followed: FollowedUsers, disk: Disk, file: Path) -> None:
    write(file, "ada")
    disk.answers.clear()
    asked = asyncio.create_task(look(followed, disk))
    async with asyncio.timeout(1):
        while disk.reads < 2:
            await asyncio.sleep(0.001)
        await followed.aclose()
        await asked


async def test_a_pipe_in_its_place_changes_nothing_and_keeps_nobody_waiting(
    followed: FollowedUsers, disk: Disk, file: Path
) -> None:
    replace_by_pipe(file)
    with capture_logs() as lines:
        async with asyncio.timeout(0.2):
            await look(followed, disk)
    assert [line["reason"] for line in lines] == [f"The credentials file {file} is no regular file."]
    assert followed.users.keys() == {"ada", "eve"}


def test_there_is_a_file_at_first(tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileError, match="No such file"):
        FollowedUsers(tmp_path / "none")
