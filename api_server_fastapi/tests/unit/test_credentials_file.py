"""The file of users: what it may say, and how it is changed."""

import re
import stat
from pathlib import Path

import pytest
from api_server.identity.credentials_file import (
    CredentialsFileError,
    User,
    hash_of_nobody,
    put_user,
    read_credentials,
    remove_user,
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
