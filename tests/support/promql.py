"""What expressions of PromQL name: as much of the language as the dashboard and the rules use."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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
