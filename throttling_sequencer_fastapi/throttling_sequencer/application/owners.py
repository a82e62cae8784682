"""Whose rows a list shows: one's own, and to an administrator everybody's."""

from typing import ClassVar

from throttling_sequencer.domain.errors import InvalidValueError

_LONGEST_OWNER = 255

EVERYBODY = "*"
"""What stands for all owners, instead of the name of one."""


class NotAdminError(Exception):
    """Who asks is known, and may not see what others keep."""

    code: ClassVar[str] = "FORBIDDEN"

    def __init__(self) -> None:
        super().__init__("to see what others keep needs the scope admin")


def listed_owner(owner: str | None, *, asker: str, is_admin: bool) -> str | None:
    """Return whose rows to list, None for everybody's: those of `owner`, by default of who asks.

    Raises NotAdminError where they are not one's own, and one is no administrator; InvalidValueError for a name that
    nobody can have.
    """
    if owner is None or (owner == asker != EVERYBODY):
        require_owner("owner_id", asker)
        return asker
    if not is_admin:
        raise NotAdminError
    if owner == EVERYBODY:
        return None
    require_owner("owner", owner)
    return owner


def require_owner(field: str, name: str) -> None:
    """Raise InvalidValueError where a table cannot keep a name."""
    is_text = "\x00" not in name and not any("\ud800" <= character <= "\udfff" for character in name)
    if not (is_text and len(name) <= _LONGEST_OWNER):
        rule = f"should be at most {_LONGEST_OWNER} characters, none of them NUL or half of a character"
        raise InvalidValueError(field, rule)
