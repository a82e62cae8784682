"""Both distributions as wheels, in an environment that has never seen the repository."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import StartService, clean_environment, fresh_database
from sequencer_process import ROOT

pytestmark = pytest.mark.slow

DIFFERENCES = """
from api_server.database.alembic_manager import AlembicManager
assert "site-packages" in AlembicManager.__init__.__code__.co_filename
assert AlembicManager().differences() == []
"""
DISTRIBUTIONS = ("api_server_fastapi", "throttling_sequencer_fastapi")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "Traceback" not in done.stderr
    return done


def made(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for distribution in DISTRIBUTIONS:
        made(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT / distribution)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def place(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with an environment of the wheels and nothing else, and an empty home."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "home").mkdir()
    lock = (ROOT / "requirements" / "prod.lock").read_text()
    pinned = re.findall(r"^\S+==[^\s\\]+(?: ;[^\\\n]+)?", lock, flags=re.MULTILINE)
    (folder / "constraints.txt").write_text("\n".join(pinned))
    made(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = (folder / "venv/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    made(*pip, "install", "--constraint", folder / "constraints.txt", *wheels, cwd=folder)
    made(*pip, "check", cwd=folder)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {"HOME": str(place / "home"), "PATH": f"{place / 'venv/bin'}{os.pathsep}{os.defpath}", "PYTHONPATH": ""}


def test_a_wheel_holds_its_package_and_no_test(wheels: list[Path]) -> None:
    packages = {
        "api_server": ["py.typed", "migrations/env.py", "migrations/script.py.mako"],
        "throttling_sequencer": ["configuration/log_config_json.json"],
    }
    for wheel, (package, files) in zip(wheels, packages.items(), strict=True):
        names = ZipFile(wheel).namelist()
        assert {f"{package}/{file}" for file in files} <= {*names}
        assert {name.partition("/")[0] for name in names} == {package, f"{package}-0.1.0.dist-info"}


def test_a_wheel_can_migrate(place: Path, postgres: PostgresAddress) -> None:
    with fresh_database(postgres) as database:
        variables = {**environment(place), "API_SERVER_DATABASE_URL": database.url}
        told = made(place / "venv/bin/api-server-cli", "db", "upgrade", "--yes", cwd=place, **variables)
        assert "success         database_schema: up to date (backends: ['alembic'])" in told
        made(place / "venv/bin/python", "-c", DIFFERENCES, cwd=place, **variables)
        made(place / "venv/bin/api-server-cli", "db", "downgrade", "base", "--yes", cwd=place, **variables)


@pytest.mark.parametrize("command", ["api-server", "api-server-cli", "throttling-sequencer"])
def test_every_command_has_help(place: Path, command: str) -> None:
    assert "Usage:" in made(place / "venv/bin" / command, "--help", cwd=place, **environment(place))


def test_the_foundation_serves(
    place: Path, start_service: StartService, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    command = [place / "venv/bin/api-server", "--port", str(port)]
    service = start_service(command, cwd=place, **environment(place))
    answer = service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
    assert (answer.status_code, answer.json()["state"]) == (503, "error")
    assert service.stop() == 0


@pytest.mark.parametrize("application", [None, "throttling_sequencer.app:SEQUENCER"])
def test_the_doctor_looks_at_it(place: Path, application: str | None) -> None:
    chosen = {"API_SERVER_APP": application} if application else {}
    done = run(place / "venv/bin/api-server-cli", "doctor", cwd=place, **environment(place), **chosen)
    # The foundation is nothing without a database, and none is configured; the sequencer only misses it.
    assert done.returncode == (0 if application else 1), done.stdout + done.stderr
    assert "API_SERVER_LOG_LEVEL" in done.stdout


def test_it_migrates_and_serves_the_sequencer(
    place: Path, postgres: PostgresAddress, start_service: StartService, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    with fresh_database(postgres) as database:
        variables = {
            **environment(place),
            "API_SERVER_APP": "throttling_sequencer.app:SEQUENCER",
            "PICCOLO_DB_HOST": database.host,
            "PICCOLO_DB_PORT": str(database.port),
            "PICCOLO_DB_PASSWORD": database.password,
            "PICCOLO_DB_DATABASE": database.database,
        }
        made(place / "venv/bin/api-server-cli", "db", "upgrade", "--yes", cwd=place, **variables)
        service = start_service([place / "venv/bin/api-server", "--port", str(port)], cwd=place, **variables)
        answer = service.wait_until_it_answers(f"http://127.0.0.1:{port}/readyz")
        assert answer.json()["state"] == "operational", answer.text
        assert service.stop() == 0
