"""The import rules hold, and each of them can be broken: a contract that cannot fail protects nothing."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOUNDATION = "api_server_fastapi/api_server"
SEQUENCER = "throttling_sequencer_fastapi/throttling_sequencer"

VIOLATIONS = {
    "foundation-below": (f"{FOUNDATION}/settings.py", "import throttling_sequencer.domain"),
    "foundation-layers": (f"{FOUNDATION}/identity/no_provider.py", "import api_server.services.registry"),
    "application-layers": (f"{SEQUENCER}/domain/game.py", "import throttling_sequencer.application.planning"),
    "faces-call-application": (
        f"{SEQUENCER}/api/http/v1/throttle.py",
        "import throttling_sequencer.services.throttle_steps_service",
    ),
    "faces-are-siblings": (f"{SEQUENCER}/api/http/v1/dtos.py", "import throttling_sequencer.api.graphql.types"),
    "pure-core": (f"{SEQUENCER}/services/throttle_steps_service.py", "import structlog"),
    "mechanisms-alone": (f"{FOUNDATION}/readiness_pipeline/check.py", "import sqlalchemy"),
    "svcs-at-the-doors": (f"{SEQUENCER}/infrastructure/lane.py", "import svcs"),
    "sql-rooms": (f"{SEQUENCER}/core/settings.py", "import sqlalchemy"),
    "piccolo-room": (f"{SEQUENCER}/application/planning.py", "import asyncpg"),
    "loguru-room": (f"{FOUNDATION}/server.py", "import loguru"),
    "opentelemetry-room": (f"{SEQUENCER}/core/telemetry.py", "import opentelemetry.trace"),
    "local-is-no-server": (f"{FOUNDATION}/server.py", "import api_server.local.postgres"),
    "no-cycles": (f"{FOUNDATION}/exceptions.py", "import api_server.settings"),
}


@pytest.fixture(scope="module")
def copied_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for package in (FOUNDATION, SEQUENCER):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(sources: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str((sources / package).parent) for package in (FOUNDATION, SEQUENCER))
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", *chosen],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_holds(copied_sources: Path) -> None:
    done = lint(copied_sources)
    assert done.returncode == 0, done.stdout


ROOMS = {
    "svcs-at-the-doors": {
        "api_server.api",
        "api_server.app",
        "api_server.graphql",
        "api_server.services",
        "throttling_sequencer.di",
    },
    "sql-rooms": {
        "api_server.app",
        "api_server.checks",
        "api_server.database",
        "api_server.migrations",
        "api_server.models",
        "api_server.services",
    },
    "piccolo-room": {"throttling_sequencer.infrastructure"},
    "loguru-room": {"api_server.logging"},
    "opentelemetry-room": {"api_server.telemetry"},
    "local-is-no-server": {"api_server.cli", "api_server.local", "api_server.testing"},
}


@pytest.mark.parametrize("contract", ROOMS)
def test_a_room_is_closed_to_every_module_but_its_own(contract: str) -> None:
    """A module that is new is outside until somebody lets it in."""
    modules = {
        f"{path.parent.name}.{path.stem}"
        for package in (FOUNDATION, SEQUENCER)
        for path in (ROOT / package).iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed", "configuration")
    }
    assert set(contracts()[contract]["source_modules"]) == modules - ROOMS[contract]


@pytest.mark.parametrize("package", ["domain", "services", "application"])
def test_the_core_imports_the_standard_library_only(package: str) -> None:
    """A contract forbids by name; this allows by name."""
    own = {"throttling_sequencer.domain", "throttling_sequencer.services", "throttling_sequencer.application"}
    for file in (ROOT / SEQUENCER / package).rglob("*.py"):
        for name in imported(file):
            standard = name.partition(".")[0] in sys.stdlib_module_names
            assert standard or any(name.startswith(room) for room in own), f"{file} imports {name}"


def imported(file: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]


def contracts() -> dict[str, dict[str, Any]]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract for contract in configuration["tool"]["importlinter"]["contracts"]}


def test_every_contract_has_a_violation_to_try_it_with() -> None:
    assert set(contracts()) == set(VIOLATIONS)


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_planted_violation_breaks_the_contract(copied_sources: Path, contract: str) -> None:
    file, line = VIOLATIONS[contract]
    source = copied_sources / file
    original = source.read_text()
    source.write_text(f"{original}\n{line}\n")
    try:
        done = lint(copied_sources, contract)
    finally:
        source.write_text(original)
    assert done.returncode == 1, done.stdout
    assert "1 broken" in done.stdout
