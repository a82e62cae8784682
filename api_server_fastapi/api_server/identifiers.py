"""Identifiers whose order is that of time (UUIDv7), which indexes like."""

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    try:
        from uuid_utils.compat import uuid7
    except ImportError:
        # A platform for which it is not built: unique all the same, in no order.
        from uuid import uuid4 as uuid7  # type: ignore[assignment]  # nobody here chooses the time that it takes

__all__ = ["uuid7"]
