"""The file of users: what it may say, and how it is changed."""

import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_server.identity import credentials_change
from api_server.identity.credentials_change import put_user, remove_user
from api_server.identity.credentials_file import (
    CredentialsFileError,
    ReadFile,
    User,
    hash_of_nobody,
    read_credentials,
)
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0"
ADA = User("ada", HASH, frozenset({"plans", "admin"}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    return path


def test_a_line_is_a_user_and_comments_are_none(file: Path) -> None:
    file.write_text(f"# who may ask\n\nada:{HASH}:plans  admin\r\neve:{HASH}:\n")
    read = read_credentials(file)
    assert read.users == {"ada": ADA, "eve": User("eve", HASH)}
    assert not read.is_open_to_others
    assert HASH not in repr(read)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ada", "It should be name:hash:scopes."),
        (f"ada:{HASH}", "It should be name:hash:scopes."),
        (f"ada:{HASH}:a:b", "It should be name:hash:scopes."),
        (f":{HASH}:a", "A user is named by 1 to 128"),
        (f" ada:{HASH}:a", "A user is named by 1 to 128"),
        (f"{'a' * 129}:{HASH}:a", "A user is named by 1 to 128"),
        ("ada:secret:a", "The hash should be one of argon2id, version 19."),
        ("ada:$2b$12$abcdefghijklmnopqrstuv:a", "The hash should be one of argon2id"),
        (f"ada:{HASH.replace('argon2id', 'argon2i')}:a", "The hash should be one of argon2id"),
        (f"ada:{HASH.replace('m=8', 'm=9999999')}:a", "The hash should cost at most m=262144"),
        (f"ada:{HASH.replace('t=1', 't=99')}:a", "The hash should cost at most"),
        (f"ada:{HASH.replace('p=1', 'p=9')}:a", "The hash should cost at most"),
        (f"ada:{HASH.replace('p=1', 'p=2')}:a", "m at least 8 times p"),
        (f"ada:{HASH.replace('m=8', 'm=08')}:a", "The hash should be one of argon2id"),
        (f"ada:{HASH.replace('m=8', 'm=٨')}:a", "The hash should be one of argon2id"),
        (f"ada:{HASH[:-3]}:a", "The salt and the digest of the hash should be base64"),
        (f"ada:{HASH.replace('c29tZXNhbHQ', 'c29tZXNhbHR')}:a", "The salt and the digest of the hash"),
        (f"ada:{HASH}:a,b\x00", "A scope is 1 to 128 visible ASCII characters"),
        (f"eve:{HASH}:a", "names eve, as a line before it does."),
        ("ada:\udcff", "is not UTF-8."),
    ],
)
def test_what_is_wrong_is_told_by_its_line_and_without_showing_it(line: str, says: str, file: Path) -> None:
    file.write_bytes(f"eve:{HASH}:\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(CredentialsFileError) as error:
        read_credentials(file)
    assert str(error.value).startswith(f"Line 2 of {file} ")
    assert says in str(error.value)
    assert "secret" not in str(error.value)
    assert "$" not in str(error.value)


def test_a_file_that_is_not_there_or_too_large_is_told_of(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileError, match=re.escape(f"{tmp_path}/none cannot be read: No such file")):
        read_credentials(tmp_path / "none")
    with pytest.raises(CredentialsFileError, match="cannot be read: Is a directory"):
        read_credentials(tmp_path)
    file.write_text("#" * (2**20 + 1))
    with pytest.raises(CredentialsFileError, match="larger than 1048576 bytes"):
        read_credentials(file)


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_whether_strangers_may_read_or_write_it_is_known(mode: int, is_open: bool, file: Path) -> None:
    file.chmod(mode)
    assert read_credentials(file).is_open_to_others is is_open


def test_a_change_touches_one_line(file: Path) -> None:
    before = f"# people\nada:{HASH}:old\n\neve:{HASH}:\n# \u2028 end\n"
    file.write_text(before)
    assert put_user(file, ADA)
    assert file.read_text() == f"# people\n\neve:{HASH}:\n# \u2028 end\nada:{HASH}:admin plans\n"
    assert not put_user(file, User("grace", HASH))
    assert read_credentials(file).users.keys() == {"ada", "eve", "grace"}
    assert remove_user(file, "eve")
    assert not remove_user(file, "eve")
    assert read_credentials(file).users.keys() == {"ada", "grace"}


def test_what_is_no_line_of_a_user_is_not_made_one(file: Path) -> None:
    comment = f"# people\rmallory:{HASH}:admin\r\n".encode()
    file.write_bytes(comment)
    put_user(file, ADA)
    remove_user(file, "# people\rmallory")
    assert file.read_bytes() == comment + f"{ADA.line}\n".encode()
    assert read_credentials(file).users == {"ada": ADA}


def test_a_file_of_nothing_is_one_without_lines(file: Path) -> None:
    put_user(file, ADA)
    assert file.read_text() == f"{ADA.line}\n"


def test_changes_at_once_are_all_made(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = 0

    def read_and_wait(path: Path) -> ReadFile:
        nonlocal started
        started += 1
        read = read_credentials(path)
        # Somebody else who may read now would have read the same.
        for _ in range(200):
            if started > 1:
                break
            os.sched_yield()
        return read

    monkeypatch.setattr(credentials_change, "read_credentials", read_and_wait)
    names = [f"user{number}" for number in range(10)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda name: put_user(file, User(name, HASH)), names))
        assert read_credentials(file).users.keys() == set(names)
        list(threads.map(lambda name: remove_user(file, name), names[1:]))
    assert read_credentials(file).users.keys() == {"user0"}


def test_a_folder_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileError, match="cannot be changed: No such file"):
        put_user(tmp_path / "none" / "credentials", ADA)


@pytest.mark.parametrize(
    "use", [lambda pipe: put_user(pipe, ADA), lambda pipe: remove_user(pipe, "ada"), read_credentials]
)
def test_a_pipe_is_neither_waited_for_nor_replaced(use: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        using = thread.submit(use, pipe)
        try:
            with pytest.raises(CredentialsFileError, match="is no regular file"):
                using.result(timeout=5)
        finally:
            # Whoever waits for a writer waits no longer.
            os.close(os.open(pipe, os.O_RDWR))
    assert pipe.is_fifo()


class Owners:
    """Files of others, which only root can make: whatever is not written now is that of 7 and 8."""

    def __init__(self, file: Path) -> None:
        self._inode = file.stat().st_ino
        self.asked: list[tuple[int, int]] = []
        self.may_give_away = True

    def of(self, status: os.stat_result) -> tuple[int, int]:
        return (7, 8) if status.st_ino == self._inode else (1, 1)

    def give(self, descriptor: int, user: int, group: int) -> None:
        assert os.fstat(descriptor).st_ino != self._inode
        self.asked.append((user, group))
        if not self.may_give_away:
            raise PermissionError


@pytest.fixture
def owners(file: Path, monkeypatch: pytest.MonkeyPatch) -> Owners:
    owners = Owners(file)
    monkeypatch.setattr(credentials_change, "_owner", owners.of)
    monkeypatch.setattr(os, "fchown", owners.give)
    return owners


def test_a_file_of_somebody_else_stays_theirs(file: Path, owners: Owners) -> None:
    file.chmod(0o640)
    put_user(file, ADA)
    assert owners.asked == [(7, 8)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_file_that_cannot_stay_theirs_is_not_changed(file: Path, owners: Owners, tmp_path: Path) -> None:
    owners.may_give_away = False
    with pytest.raises(CredentialsFileError, match="is that of user 7 and group 8"):
        put_user(file, ADA)
    assert not file.read_bytes()
    assert list(tmp_path.iterdir()) == [file]


def test_who_owns_a_file_owns_it_after_a_change(file: Path) -> None:
    if os.geteuid() == 0:  # nobody else can give a file away
        os.chown(file, 7, 8)
    before = file.stat()
    put_user(file, ADA)
    after = file.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_new_file_is_its_writers_own(tmp_path: Path) -> None:
    put_user(tmp_path / "new", ADA)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_that_others_read_stays_theirs_but_not_strangers(file: Path) -> None:
    file.chmod(0o644)
    put_user(file, ADA)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    put_user(link, ADA)
    assert link.is_symlink()
    assert read_credentials(file).users == {"ada": ADA}


def test_a_file_that_cannot_be_used_is_not_made_another(file: Path) -> None:
    file.write_text("nonsense\n")
    with pytest.raises(CredentialsFileError, match="Line 1"):
        put_user(file, ADA)
    with pytest.raises(CredentialsFileError, match="Line 1"):
        remove_user(file, "ada")
    assert file.read_text() == "nonsense\n"


def test_nobody_has_a_hash_that_costs_what_others_do() -> None:
    costly = User("a", HASH.replace("m=8", "m=64"))
    users = {user.name: user for user in (costly, User("b", costly.password_hash), User("c", HASH))}
    nobody = hash_of_nobody(users)
    assert nobody.split("$")[3] == "m=64,t=1,p=1"
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(nobody, "")
    assert hash_of_nobody({}).split("$")[3] == "m=19456,t=2,p=1"
