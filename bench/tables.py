"""Writes docs/figures.md from `bench/results`: what was asked, what was reached, and telemetry's costs."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "figures.md"
TITLES = {
    "http": "What the stack costs a request",
    "live": "Live goals, beside a plain Strawberry subscription",
    "units": "A thousand units",
    "lane": "The lane at four times what it can do",
    "presets": "A preset that changes",
    "hostile": "Hostile documents",
    "silent_sockets": "Clients that read nothing",
    "telemetry": "What telemetry costs",
}
_HEAD = """\
# Figures

Ratios are of two services that were measured side by side in one run. A figure that is not reached stands here as it
is; what is asked is in the heads of the programs, `bench/<name>.py`. `make bench` measures all of it,
`python -m bench <name> …` a part, and `python -m bench.tables` writes this page from `bench/results`.

Plans have [a page of their own](planner_quality.md), and so have [failovers](failover.md).
"""
_SHARES = ("throughput_ratio", "cpu_ratio", "p50_ratio", "p99_ratio")


def page() -> str:
    """Return the page, of the results as they lie there."""
    return "\n".join([_HEAD, *("\n".join(_section(name, title)) for name, title in TITLES.items())]).rstrip() + "\n"


def _section(name: str, title: str) -> Iterator[str]:
    result = json.loads((HERE / "results" / f"{name}.json").read_text())
    yield f"## {title} (`python -m bench {name}`)\n"
    yield "| | asked | reached | |\n|---|---|---|---|"
    for path, figure in _asked(result["figures"], ()):
        said = "" if figure["is_reached"] else "not reached"
        yield f"| {' · '.join(path)} | {figure['asked']} | {figure['reached']} | {said} |"
    yield ""
    if name == "telemetry":
        yield from _shares(result["figures"])
    versions = result["taken_with"]
    yield f"Python {versions['python']}, FastAPI {versions['fastapi']}, uvicorn {versions['uvicorn']}.\n"


def _asked(figures: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for name, figure in figures.items():
        words = (*path, name.replace("_", " "))
        if isinstance(figure, Mapping) and "is_reached" in figure:
            yield words, figure
        elif isinstance(figure, Mapping):
            yield from _asked(figure, words)


def _shares(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "As ratios to a service without telemetry; the last line, to one whose collector takes what is sent:\n"
    yield f"| traces recorded | {' | '.join(share.replace('_', ' ') for share in _SHARES)} |"
    yield "|---|---|---|---|---|"
    for name, figure in figures.items():
        values = [figure[share] for share in _SHARES]
        shown = [str(value["reached"] if isinstance(value, Mapping) else value) for value in values]
        yield f"| {name.replace('_percent', ' %').replace('_', ' ')} | {' | '.join(shown)} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
