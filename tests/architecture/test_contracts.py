"""The import rules hold, and each of them can be broken: a contract that cannot fail protects nothing."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_every_contract_has_a_violation_to_try_it_with() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == set(VIOLATIONS)


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
