"""What the pages of the documentation show."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sequencer_process import ROOT

# A decision is true of the day on which it was made.
_DECISIONS = ROOT / "docs" / "adr"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Each command after a `$`, and what it is shown to print."""
        found: list[tuple[str, str]] = re.findall(
            r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", self.text, flags=re.MULTILINE
        )
        return found

    @property
    def commands(self) -> list[str]:
        """The lines of a script, continued ones as one, without comments."""
        lines = re.sub(r"(^| )#.*", "", self.text.replace("\\\n", " "), flags=re.MULTILINE).splitlines()
        return [" ".join(line.split()) for line in lines if line.strip()]


def pages() -> list[Path]:
    """Return every page that tells how things are."""
    guides = [page for page in ROOT.glob("docs/**/*.md") if not page.is_relative_to(_DECISIONS)]
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*_fastapi/README.md"), *guides])


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(page, line, fence["language"], fence["text"])


def links(page: Path) -> list[str]:
    """Return what the page's links name within the repository, relative to the page's folder."""
    found = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Return the names of the page's sections, as a link has them after its #."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


_FENCE = re.compile(r"^```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
