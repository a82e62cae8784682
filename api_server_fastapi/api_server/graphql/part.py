"""What an application adds to the GraphQL schema."""

from collections.abc import Sequence
from dataclasses import dataclass

from strawberry.extensions import SchemaExtension


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphQLPart:
    """Strawberry types whose fields become fields of the schema's root types."""

    query: type | None = None
    mutation: type | None = None
    subscription: type | None = None
    extensions: Sequence[type[SchemaExtension]] = ()
