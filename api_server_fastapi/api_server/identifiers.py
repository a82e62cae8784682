"""Identifiers whose order is that of time (UUIDv7), which indexes like."""

import sys
from uuid import uuid4

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    try:
        from uuid_utils.compat import uuid7
    except ImportError:
        # A platform for which it is not built: unique all the same, in no order.
        uuid7 = uuid4

__all__ = ["uuid7"]
