"""What is wrong with a configuration as a whole, where each value for itself would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A contradiction among settings: an `error` does not work, a `warning` works otherwise than somebody may think.

    The `sentence` says what happens and what to change; it holds no secret.
    """

    severity: Literal["error", "warning"]
    variables: Sequence[str]
    sentence: str
