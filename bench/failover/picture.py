"""Draws acknowledged writes over time, with what was done to the database meanwhile."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[2] / "docs" / "failover.png"

SHOWN = ("kill", "cut-then-kill", "cut-then-kill-do-nothing", "freeze", "kill-haproxy-route", "long-outage")
_KEPT, _LOST, _FAILED = "#1f4e9c", "#c0392b", "#b9b9b9"


def draw(results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the first run of each of the scenarios that show most."""
    first = {result["scenario"]: result for result in reversed(results)}
    shown = [first[name] for name in SHOWN if name in first]
    figure = Figure(figsize=(11.0, 2.3 * len(shown)), dpi=110, layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for place, result in zip(axes, shown, strict=True):
        _draw_one(place, result)
    axes[-1].set_xlabel("seconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    figure.savefig(PICTURE)


def _draw_one(axes: Axes, result: Mapping[str, Any]) -> None:
    timeline = result["timeline"]
    width = timeline["bin_s"]
    moments = [place * width for place in range(len(timeline["acknowledged"]))]
    below = [0] * len(moments)
    for name, colour, label in (
        ("acknowledged", _KEPT, "acknowledged and kept"),
        ("lost", _LOST, "acknowledged and lost"),
        ("failed", _FAILED, "answered by an error"),
    ):
        axes.bar(moments, timeline[name], width, below, align="edge", color=colour, label=label)
        below = [one + other for one, other in zip(below, timeline[name], strict=True)]
    highest = max(below, default=1)
    for number, (at, text) in enumerate(timeline["events"]):
        axes.axvline(at, color="black", linewidth=0.7, linestyle=":")
        # Events that are close to each other stand below each other.
        height = highest * (0.95 - 0.13 * (number % 4))
        axes.text(at + 0.05, height, text, fontsize=7, va="top", bbox={"facecolor": "white", "alpha": 0.7, "lw": 0})
    title = f"{result['scenario']}: {result['acknowledged']} acknowledged, {result['lost']} lost"
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_ylabel("each 0.1 s", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
