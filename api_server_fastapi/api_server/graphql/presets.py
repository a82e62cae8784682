"""Presets over GraphQL."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from api_server.exceptions import InvalidValueError
from api_server.graphql.context import GraphQLContext
from api_server.graphql.paging import PageInfo
from api_server.graphql.part import GraphQLPart
from api_server.identity import Principal
from api_server.models.db_model import Preset
from api_server.services.preset_service import PresetService

Info = strawberry.Info[GraphQLContext]
Document = Annotated[JSON, strawberry.argument(description="An object that fits the kind.")]
Version = Annotated[int, strawberry.argument(description="The version that was read.")]


@strawberry.type(name="Preset", description="A document that a user keeps under a name.")
class PresetType:
    """A preset, as answered."""

    id: strawberry.ID
    kind: str
    name: str
    document: JSON
    owner_id: str = strawberry.field(description="Who created it.")
    version: int = strawberry.field(description="How often it was written.")
    created_at: datetime
    updated_at: datetime


@strawberry.type(name="PresetPage", description="Presets, oldest first.")
class PresetPageType:
    """A page, as answered."""

    nodes: list[PresetType]
    page_info: PageInfo


@strawberry.type
class PresetQuery:
    """What users can ask about presets."""

    @strawberry.field(description="One preset; to an administrator anybody's.")
    async def preset(self, info: Info, id: strawberry.ID) -> PresetType | None:  # noqa: A002 - as the schema has it
        return _shown(await _presets(info).get(_asker(info), _uuid(id)))

    @strawberry.field(
        description="Your presets of a kind and the one that is the whole service's, oldest first, up to 100 a page;"
        " fewer where their documents would be more than 1 MiB."
    )
    async def presets(
        self,
        info: Info,
        kind: str,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="The endCursor of an earlier page.")] = None,
        owner: Annotated[
            str | None,
            strawberry.argument(description="Whose alone, `*` for everybody's; others' need the scope `admin`."),
        ] = None,
    ) -> PresetPageType:
        page = await _presets(info).page(_asker(info), kind, first, after, owner=owner)
        return PresetPageType(
            nodes=[_shown(preset) for preset in page.items],
            page_info=PageInfo(end_cursor=page.end_cursor, has_next_page=page.has_next),
        )


@strawberry.type
class PresetMutation:
    """What users can do with presets; each field is null where it fails, so that it takes no other's answer away."""

    @strawberry.mutation(description="Keep a document under a name; `default` is the whole service's preset of a kind.")
    async def create_preset(self, info: Info, kind: str, name: str, document: Document) -> PresetType | None:
        return _shown(await _presets(info).create(_asker(info), kind, name, document))

    @strawberry.mutation(description="Give a preset another name and document, if it still has this version.")
    async def update_preset(
        self,
        info: Info,
        id: strawberry.ID,  # noqa: A002 - as the schema has it
        version: Version,
        name: str,
        document: Document,
    ) -> PresetType | None:
        return _shown(await _presets(info).replace(_asker(info), _uuid(id), version, name, document))

    @strawberry.mutation(description="Delete a preset, if it still has this version, and return its id.")
    async def delete_preset(
        self,
        info: Info,
        id: strawberry.ID,  # noqa: A002 - as the schema has it
        version: Version,
    ) -> strawberry.ID | None:
        preset_id = _uuid(id)
        await _presets(info).delete(_asker(info), preset_id, version)
        return strawberry.ID(str(preset_id))


PRESETS_PART = GraphQLPart(query=PresetQuery, mutation=PresetMutation)


def _presets(info: Info) -> PresetService:
    return info.context.services.get(PresetService)


def _asker(info: Info) -> Principal:
    assert info.context.principal is not None, "who is not known is refused before an operation begins"
    return info.context.principal


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise InvalidValueError("id", "should be a valid UUID") from error


def _shown(preset: Preset) -> PresetType:
    return PresetType(
        id=strawberry.ID(str(preset.id)),
        kind=preset.kind,
        name=preset.name,
        document=JSON(preset.document),
        owner_id=preset.owner_id,
        version=preset.version,
        created_at=preset.created_at,
        updated_at=preset.updated_at,
    )
