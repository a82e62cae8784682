"""Which files a .dockerignore lets into the context of a build."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def sent_files(root: Path) -> list[PurePosixPath]:
    """Return the files under `root` that its .dockerignore lets in."""
    lines = (root / ".dockerignore").read_text().splitlines()
    rules = [_rule(line) for line in lines if line and not line.startswith("#")]
    return sorted(_sent(root, PurePosixPath(), rules))


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    expression: re.Pattern[str]
    lets_in: bool

    def concerns(self, path: PurePosixPath) -> bool:
        """Tell whether it names the path or a folder above it."""
        return any(self.expression.fullmatch(str(part)) for part in (path, *path.parents))


def _rule(line: str) -> _Rule:
    pattern = line.removeprefix("!").strip("/")
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    expression = "".join(_WILDCARDS.get(part, re.escape(part)) for part in parts)
    return _Rule(pattern, re.compile(expression), line.startswith("!"))


def _sent(root: Path, folder: PurePosixPath, rules: Sequence[_Rule]) -> Iterator[PurePosixPath]:
    for entry in (root / folder).iterdir():
        path = folder / entry.name
        # The last rule that concerns a path decides.
        lets_in = next((rule.lets_in for rule in reversed(rules) if rule.concerns(path)), True)
        if not entry.is_dir():
            if lets_in:
                yield path
        elif lets_in or any(rule.lets_in and rule.pattern.startswith(f"{path}/") for rule in rules):
            yield from _sent(root, path, rules)
