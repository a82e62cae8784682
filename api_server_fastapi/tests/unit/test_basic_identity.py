"""Who is believed by a password, what that costs, and what a change of the file changes."""

import asyncio
import base64
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_server.exceptions import IdentityUnavailableError, NotAuthenticatedError, SettingsError
from api_server.identity import Credentials, Principal
from api_server.identity import basic as basic_module
from api_server.identity.basic import BasicAuthenticator
from argon2 import PasswordHasher
from structlog.testing import capture_logs

# As cheap as can be: what a guess costs is no matter here.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


class Checks:
    """Counts the passwords that are checked, and may hold them up."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.at_once = self.most_at_once = 0
        self.may_end = threading.Event()
        self.may_end.set()
        self._verify = basic_module._verify

    def __call__(self, password_hash: str, password: str) -> bool:
        self.hashes.append(password_hash)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.may_end.wait(10)
        self.at_once -= 1
        return self._verify(password_hash, password)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    checks = Checks()
    monkeypatch.setattr(basic_module, "_verify", checks)
    return checks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    write(path, ada="a password", eve="another one")
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def authenticator(file: Path, clock: Clock, checks: Checks) -> AsyncIterator[BasicAuthenticator]:
    authenticator = BasicAuthenticator(file, clock)
    yield authenticator
    checks.may_end.set()
    await authenticator.aclose()


def write(path: Path, scopes: str = "plans", **passwords: str) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}:{HASHER.hash(word)}:{scopes}\n" for name, word in passwords.items()))


def replace(path: Path, text: str | None) -> None:
    path.unlink()
    if text is not None:
        path.write_text(text)


def basic(name: str, password: str) -> Credentials:
    return Credentials("basic", base64.b64encode(f"{name}:{password}".encode()).decode())


async def refuses(authenticator: BasicAuthenticator, credentials: Credentials | None) -> str:
    with pytest.raises(NotAuthenticatedError) as refused:
        await authenticator.authenticate(credentials)
    return refused.value.reason


async def test_who_knows_the_password_is_believed(authenticator: BasicAuthenticator) -> None:
    principal = await authenticator.authenticate(basic("ada", "a password"))
    assert principal == Principal("ada", frozenset({"plans"}))


async def test_a_wrong_password_and_an_unknown_user_look_alike_and_cost_the_same(
    authenticator: BasicAuthenticator, checks: Checks
) -> None:
    wrong = await refuses(authenticator, basic("ada", "another one"))
    unknown = await refuses(authenticator, basic("nobody", "a password"))
    assert wrong == unknown
    costs = [password_hash.split("$")[3] for password_hash in checks.hashes]
    assert costs == ["m=8,t=1,p=1"] * 2


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        Credentials("bearer", "ada"),
        Credentials("basic", "!"),
        Credentials("basic", base64.b64encode(b"ada").decode()),
        Credentials("basic", base64.b64encode(b"ada:\xff").decode()),
        basic("ada", "x" * 1024),
        basic("", ""),
        basic("ada", ""),
        basic("ada\n", "a password"),
    ],
)
async def test_nothing_else_is_believed(credentials: Credentials | None, authenticator: BasicAuthenticator) -> None:
    await refuses(authenticator, credentials)


async def test_what_is_longer_than_any_password_is_not_checked(
    authenticator: BasicAuthenticator, checks: Checks
) -> None:
    await refuses(authenticator, basic("ada", "x" * 1024))
    assert not checks.hashes


async def test_a_password_that_was_right_is_not_checked_again_while_it_is_used(
    authenticator: BasicAuthenticator, checks: Checks, clock: Clock
) -> None:
    for _ in range(100):
        await authenticator.authenticate(basic("ada", "a password"))
        clock.time += 899
    assert len(checks.hashes) == 1
    clock.time += 1
    await authenticator.authenticate(basic("ada", "a password"))
    assert len(checks.hashes) == 2
    # One that was wrong is wrong again, and nothing of it is kept.
    for _ in range(2):
        await refuses(authenticator, basic("ada", "guess"))
    assert len(checks.hashes) == 4


async def test_many_who_present_the_same_wait_for_one_check(authenticator: BasicAuthenticator, checks: Checks) -> None:
    asked = (authenticator.authenticate(basic("ada", "a password")) for _ in range(100))
    assert len(await asyncio.gather(*asked)) == 100
    assert len(checks.hashes) == 1


async def test_who_leaves_does_not_end_a_check_that_others_wait_for(
    authenticator: BasicAuthenticator, checks: Checks
) -> None:
    checks.may_end.clear()
    leaving, staying = (asyncio.create_task(authenticator.authenticate(basic("ada", "a password"))) for _ in range(2))
    async with asyncio.timeout(5):
        while not checks.hashes:
            await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.wait([leaving])
    checks.may_end.set()
    assert (await staying).user_id == "ada"
    assert leaving.cancelled()
    assert len(checks.hashes) == 1


async def test_a_flood_of_guesses_is_bounded_and_keeps_nobody_out_who_is_known(
    authenticator: BasicAuthenticator, checks: Checks, clock: Clock
) -> None:
    await authenticator.authenticate(basic("eve", "another one"))
    checks.may_end.clear()
    guesses = [asyncio.create_task(authenticator.authenticate(basic("ada", f"guess {n}"))) for n in range(200)]
    async with asyncio.timeout(10):
        while sum(guess.done() for guess in guesses) < 200 - 64:
            await asyncio.sleep(0.001)
    # Who is known already is not in that line, however long it is there.
    for _ in range(100):
        clock.time += 100
        assert await authenticator.authenticate(basic("eve", "another one"))
    checks.may_end.set()
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.count(IdentityUnavailableError) == 200 - 64
    assert kinds.count(NotAuthenticatedError) == 64
    assert checks.most_at_once == 2
    assert not authenticator._checks


async def test_guesses_are_told_of_by_their_number_once_in_a_while(
    authenticator: BasicAuthenticator, clock: Clock
) -> None:
    with capture_logs() as lines:
        for second in range(21):
            clock.time = 1000.0 + second
            await refuses(authenticator, basic("ada", "guess"))
    assert [line["times"] for line in lines] == [1, 10, 10]
    assert {line["log_level"] for line in lines} == {"warning"}
    assert "ada" not in str(lines)


async def test_that_passwords_are_not_checked_is_told_with_the_reason(
    authenticator: BasicAuthenticator, checks: Checks
) -> None:
    checks.may_end.clear()
    with capture_logs() as lines:
        guesses = [asyncio.create_task(authenticator.authenticate(basic("ada", f"guess {n}"))) for n in range(70)]
        async with asyncio.timeout(10):
            while sum(guess.done() for guess in guesses) < 70 - 64:
                await asyncio.sleep(0.001)
    checks.may_end.set()
    await asyncio.gather(*guesses, return_exceptions=True)
    assert [(line["event"], line["reason"], line["times"]) for line in lines] == [
        ("passwords not checked", "64 passwords are being checked", 1)
    ]


async def test_what_is_remembered_is_bounded_and_holds_no_password(authenticator: BasicAuthenticator) -> None:
    assert await authenticator.authenticate(basic("ada", "a password"))
    assert "a password" not in str(vars(authenticator._remembered))
    for number in range(2000):
        authenticator._remembered.keep(str(number).encode(), authenticator._followed.users["ada"], 60)
    assert len(authenticator._remembered) == 1024


async def test_a_change_of_the_file_is_seen_within_a_second(
    authenticator: BasicAuthenticator, file: Path, clock: Clock
) -> None:
    assert await authenticator.authenticate(basic("ada", "a password"))
    assert await authenticator.authenticate(basic("eve", "another one"))
    write(file, scopes="admin", ada="a new password")
    assert await authenticator.authenticate(basic("ada", "a password"))
    clock.time += 1
    # What was remembered is not believed any more.
    await refuses(authenticator, basic("ada", "a password"))
    await refuses(authenticator, basic("eve", "another one"))
    assert (await authenticator.authenticate(basic("ada", "a new password"))).scopes == {"admin"}


@pytest.mark.parametrize("broken", ["nonsense\n", None])
async def test_a_broken_file_changes_nothing_and_is_told_of_once(
    broken: str | None, authenticator: BasicAuthenticator, file: Path, clock: Clock
) -> None:
    replace(file, broken)
    with capture_logs() as lines:
        for _ in range(3):
            clock.time += 1
            assert await authenticator.authenticate(basic("ada", "a password"))
    assert [(line["log_level"], str(file) in line["reason"]) for line in lines] == [("error", True)]
    write(file, ada="a new password")
    clock.time += 1
    assert await authenticator.authenticate(basic("ada", "a new password"))


def test_a_file_that_cannot_be_used_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none cannot be read"):
        BasicAuthenticator(tmp_path / "none")
    (tmp_path / "bad").write_text("ada:secret:x\n")
    with pytest.raises(SettingsError, match=r"Line 1 of .*bad cannot be used") as error:
        BasicAuthenticator(tmp_path / "bad")
    assert "secret" not in str(error.value)


def test_a_file_that_everybody_may_read_is_warned_of(file: Path) -> None:
    file.chmod(0o644)
    with capture_logs() as lines:
        BasicAuthenticator(file)
    assert [(line["log_level"], line["file"]) for line in lines] == [("warning", os.fspath(file))]


async def test_closing_ends_the_checks(file: Path, checks: Checks) -> None:
    authenticator = BasicAuthenticator(file)
    checks.may_end.clear()
    asked = asyncio.create_task(authenticator.authenticate(basic("ada", "a password")))
    while not checks.hashes:
        await asyncio.sleep(0.001)
    checks.may_end.set()
    await authenticator.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked
