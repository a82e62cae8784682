"""What expressions of PromQL name: as much of the language as the dashboard and the rules use."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass(frozen=True)
class Selected:
    """A metric that an expression reads, and what it asks of its labels: name, operator and value."""

    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)


def selected(expression: str) -> Iterator[Selected]:
    """Yield the metrics that an expression reads."""
    text = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", expression))
    for found in _SELECTOR.finditer(text):
        name, matchers = found.groups()
        is_function = matchers is None and text[found.end() :].lstrip().startswith("(")
        is_number = found.start() > 0 and text[found.start() - 1].isdigit()
        # What stands before its grouping is an aggregation: its parenthesis comes after.
        if not (is_function or is_number or name in _KEYWORDS):
            yield Selected(name, _MATCHER.findall(matchers or ""))


def grouped_by(expression: str) -> set[str]:
    """Return the labels by which an expression groups."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",") if label.strip()}


def is_balanced(expression: str) -> bool:
    """Whether each bracket is closed by its own."""
    opened: list[str] = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in "([{":
            opened.append(")]}"["([{".index(character)])
        elif character in ")]}" and (not opened or opened.pop() != character):
            return False
    return not opened


def grown(expression: str, scrapes: Sequence[Mapping[str, float]]) -> float:
    """Evaluate `sum(increase(…)) or sum(changes(…))`, without its comparison, over scrapes of one target.

    As Prometheus does, but that it guesses no growth before the first scrape and after the last.
    """
    found = re.findall(r"\b(increase|changes)\((\w+)\[\w+\]\)", expression)
    assert found, expression
    return max(_GROWTHS[function]([scrape[metric] for scrape in scrapes]) for function, metric in found)


def _increase(values: Sequence[float]) -> float:
    """What a counter that falls tells is what it counted since it began anew."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def _changes(values: Sequence[float]) -> float:
    return sum(before != after for before, after in pairwise(values))


_GROWTHS: dict[str, Callable[[Sequence[float]], float]] = {"increase": _increase, "changes": _changes}
