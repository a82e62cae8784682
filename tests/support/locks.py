"""What the lock files pin."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from sequencer_process import ROOT


@dataclass(frozen=True, slots=True)
class Pin:
    """One release of a package, where it is needed, and the hashes of its files."""

    version: str
    marker: Marker | None
    hashes: frozenset[str]

    @property
    def is_for_here(self) -> bool:
        return self.marker is None or self.marker.evaluate()


def pins(lock: str) -> Mapping[str, Pin]:
    """Return what `requirements/<lock>.lock` pins, by name; raises ValueError for a line that is something else.

    Of a package with several releases, each for other Pythons, that is the one for this Python.
    """
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    # The last one wins.
    return dict(sorted(map(_pin, lines), key=lambda named: named[1].is_for_here))


def _pin(line: str) -> tuple[str, Pin]:
    found = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; (.*?))?((?: ?--hash=sha256:[0-9a-f]{64})+)", line.strip())
    if found is None:
        raise ValueError(f"no pinned release with hashes: {line}")
    name, version, marker, hashes = found.groups()
    return name, Pin(version, Marker(marker) if marker else None, frozenset(hashes.split()))
