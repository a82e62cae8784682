"""Where a page ends, as clients hand it back."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from throttling_sequencer.domain.errors import InvalidValueError


def cursor_of(last: UUID) -> str:
    """Return the cursor of a page that ends with what has this id."""
    return urlsafe_b64encode(last.bytes).decode().rstrip("=")


def id_of(cursor: str, field: str) -> UUID:
    """Return the id that a cursor stands for. Raises InvalidValueError, about a field of this name."""
    try:
        found = UUID(bytes=urlsafe_b64decode(cursor.encode() + b"=="))
    except ValueError as error:
        raise InvalidValueError(field, "should be the cursor of an earlier page") from error
    if cursor_of(found) != cursor:
        raise InvalidValueError(field, "should be the cursor of an earlier page")
    return found
