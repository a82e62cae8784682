"""The foundation's own part of the schema."""

import strawberry

from api_server.application import Application
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart


@strawberry.type(name="Version", description="What runs here.")
class VersionType:
    """The name and version of the application that is served."""

    name: str
    version: str


@strawberry.type
class SystemQuery:
    """What every service can be asked."""

    @strawberry.field(description="The name and version of the application that is served.")
    def version(self, info: strawberry.Info[GraphQLContext]) -> VersionType:
        application = info.context.services.get(Application)
        return VersionType(name=application.name, version=application.version)


SYSTEM_PART = GraphQLPart(query=SystemQuery)
