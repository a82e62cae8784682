"""`Idempotency-Key`: the name that a client gives to a request, so that it can be repeated."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from throttling_sequencer.application.stored_plans import require_key
from throttling_sequencer.domain.errors import InvalidValueError

IDEMPOTENCY_KEY = "Idempotency-Key"

# A string of RFC 8941, which is what the header's draft standard asks for.
_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


async def _given_key(
    request: Request,
    idempotency_key: Annotated[  # noqa: ARG001 - named here for the documentation alone: of two, FastAPI takes one
        str | None,
        Header(description="A key for this request, plain or in quotes; one is made up where it is missing."),
    ] = None,
) -> str | None:
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1:
        raise InvalidValueError(IDEMPOTENCY_KEY, "should be given once")
    key = _read(given[0])
    require_key(IDEMPOTENCY_KEY, key)
    return key


GivenKey = Annotated[str | None, Depends(_given_key)]
"""The key of a request, None where it has none. Raises InvalidValueError."""


def written(key: str) -> str:
    """Write a key so that it is read as the same: in quotes where it could not stand plain."""
    if key.startswith('"') or key != key.strip():
        return '"{}"'.format(re.sub(r'(["\\])', r"\\\1", key))
    return key


def _read(value: str) -> str:
    if not value.startswith('"'):
        return value
    quoted = _STRING.fullmatch(value)
    if quoted is None:
        raise InvalidValueError(IDEMPOTENCY_KEY, "should end as it begins, with a quote")
    return re.sub(r"\\(.)", r"\1", quoted[1])
