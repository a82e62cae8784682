"""Whose rows are asked for."""

from typing import Annotated

import strawberry
from api_server.graphql.context import GraphQLContext
from api_server.identity import ADMIN_SCOPE

OwnerArgument = Annotated[
    str | None,
    strawberry.argument(
        description="Whose to list, `*` for everybody's; by default your own. Others' need the scope `admin`."
    ),
]


def is_admin(info: strawberry.Info[GraphQLContext]) -> bool:
    """Return whether who asks sees what is everybody's."""
    principal = info.context.principal
    return principal is not None and principal.has_scope(ADMIN_SCOPE)
