"""Columns of numbers: lists that are answered as one value each."""

from collections.abc import Mapping, Sequence
from typing import NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

IntColumn = NewType("IntColumn", Sequence[int])
FloatColumn = NewType("FloatColumn", Sequence[float])

# GraphQL completes a list item by item, at a microsecond or more each; a scalar costs the same however long it is.
COLUMNS: Mapping[object, ScalarDefinition] = {
    IntColumn: strawberry.scalar(
        name="IntColumn", description="Integers, in JSON a list of them. Only answered, never given.", serialize=list
    ),
    FloatColumn: strawberry.scalar(
        name="FloatColumn", description="Numbers, in JSON a list of them. Only answered, never given.", serialize=list
    ),
}
