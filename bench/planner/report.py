"""Draws and tabulates the figures, into `docs/`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.planner.gaps import SMALLEST_GAP

DOCS = Path(__file__).parents[2] / "docs"
PICTURE = DOCS / "planner_quality.png"
PAGE = DOCS / "planner_quality.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COMMAND = "python -m bench planner"
_DRAWN_AT_LEAST = 1e-5
_OURS = "#1f4e9c"
_COLOURS = {"deap": "#b4572b", "pymoo": "#5b7f3a", "pygad": "#8a5a9e", "scipy_de": "#8c8c8c"}


def draw(figures: Mapping[str, Any]) -> None:
    """Draw quality against time: each contestant's gap after so many milliseconds, in the middle and near the worst."""
    figure = Figure(figsize=(11.0, 4.8), dpi=130, layout="constrained")
    middle, worst = figure.subplots(1, 2, sharey=True)
    for axes, which, title in ((middle, "p50", "half of the cases"), (worst, "p95", "95 of 100 cases")):
        for name, gaps in figures["contest"]["gap"].items():
            _draw_line(axes, name, which, gaps)
        axes.axvline(figures["optimal"]["median_ms"]["reached"], color=_OURS, linestyle=":", label="optimal: proven")
        axes.set(xscale="log", yscale="log", xlabel="milliseconds", title=title)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    middle.set_ylabel(f"gap to the optimum, at most (from {_DRAWN_AT_LEAST:g} up)")
    figure.legend(*middle.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(PICTURE)


def _draw_line(axes: Axes, name: str, which: str, gaps: Mapping[str, Mapping[str, float | None]]) -> None:
    points = [(int(budget), gap[which]) for budget, gap in gaps.items() if gap[which] is not None]
    times, values = [time for time, _ in points], [max(value or 0.0, _DRAWN_AT_LEAST) for _, value in points]
    peer, _, kind = name.partition(" ")
    if not kind:
        colour = _OURS if name == "genetic" else "#222222"
        axes.plot(times, values, "o-", color=colour, linewidth=2.0, markersize=4, label=name)
    else:
        marker = "s--" if kind == "plain" else "^:"
        axes.plot(times, values, marker, color=_COLOURS[peer], linewidth=1.2, markersize=4, label=name)


def write_page(figures: Mapping[str, Any]) -> None:
    """Write the tables between the page's two marks, and leave what is around them."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(_tables(figures))
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


def _tables(figures: Mapping[str, Any]) -> Iterator[str]:
    yield from _optimal_table(figures["optimal"], figures["cases"])
    yield from _genetic_table(figures)
    yield from _contest_table(figures["contest"])
    anew = figures["proved_anew"]
    yield f"Proved anew in this run: {anew['agreeing']} of {anew['cases']} sampled optima agree ({anew['seconds']} s)."


def _optimal_table(optimal: Mapping[str, Any], cases: Mapping[str, int]) -> Iterator[str]:
    yield f"### `optimal`, {optimal['cases']} proven cases of {cases['made']} (`{COMMAND}`)\n"
    yield "| | asked | reached |"
    yield "|---|---|---|"
    for name, figure in optimal.items():
        if isinstance(figure, Mapping):
            yield f"| {name.replace('_', ' ')} | {figure['asked']} | {figure['reached']} |"
        elif name != "cases":
            yield f"| {name.replace('_', ' ')} | | {figure} |"
    yield ""


def _genetic_table(figures: Mapping[str, Any]) -> Iterator[str]:
    usual, others = figures["genetic"], figures["genetic_of_other_objectives"]
    yield f"### `genetic`: gap after so many milliseconds (`{COMMAND}`)\n"
    yield f"{usual['cases']} cases of the default objective on the left, {others['cases']} of others on the right.\n"
    yield "| ms | p50 | p95 | max | p50 | p95 | max |"
    yield "|---|---|---|---|---|---|---|"
    for budget in usual["gap"]:
        yield f"| {budget} | {_cells(usual['gap'][budget])} | {_cells(others['gap'][budget])} |"
    yield ""


def _contest_table(contest: Mapping[str, Any]) -> Iterator[str]:
    budgets = list(contest["gap"]["genetic"])
    yield f"### Side by side, {contest['cases']} cases: p50 / p95 of the gap after so many ms (`{COMMAND}`)\n"
    yield f"| | {' | '.join(budgets)} |"
    yield "|---" * (len(budgets) + 1) + "|"
    for name, gaps in contest["gap"].items():
        cells = (_cells(gaps[budget], ("p50", "p95"), " / ") if budget in gaps else "" for budget in budgets)
        yield f"| {name} | {' | '.join(cells)} |"
    beside = contest["best_peer_beside_ours"]
    yield ""
    yield (
        f"Best plain peer: {beside['peer']}, whose median gap after 1 s is {beside['ratio']['reached']} times that of"
        f" `genetic` after 50 ms ({beside['ratio']['asked']} asked, a gap below {SMALLEST_GAP:g} counting as that).\n"
    )


def _cells(gap: Mapping[str, float | None], names: Sequence[str] = ("p50", "p95", "max"), between: str = " | ") -> str:
    return between.join("none" if (value := gap[name]) is None else f"{value:.4g}" for name in names)
