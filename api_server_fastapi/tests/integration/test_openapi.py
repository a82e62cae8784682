"""The OpenAPI document says what any endpoint may answer."""

from typing import Annotated, Any

import pytest
from api_server.api.documentation import complete_documentation
from fastapi import FastAPI, Query
from pydantic import BaseModel


class Thing(BaseModel):
    """What is posted."""

    name: str


@pytest.fixture(scope="module")
def paths() -> Any:
    app = FastAPI()

    @app.get("/alive")
    async def alive() -> None: ...

    @app.get("/things")
    async def things(limit: Annotated[int, Query()] = 1) -> None: ...

    @app.post("/things", responses={409: {"description": "Its own"}, 429: {"description": "Its own"}})
    async def create(thing: Thing) -> None: ...

    @app.get("/graphql", responses={404: {}})
    async def read_graphql() -> None: ...

    @app.post("/graphql")
    async def post_graphql() -> None: ...

    complete_documentation(app, public_paths=["/alive"], graphql_path="/graphql")
    document = app.openapi()
    assert app.openapi() is document
    assert not {"HTTPValidationError", "ValidationError"} & document["components"]["schemas"].keys()
    return document["paths"]


def test_what_needs_no_identity_and_no_input_fails_by_itself_only(paths: Any) -> None:
    assert paths["/alive"]["get"]["responses"].keys() == {"200", "500"}


def test_what_takes_input_may_refuse_it(paths: Any) -> None:
    read, created = paths["/things"]["get"]["responses"], paths["/things"]["post"]["responses"]
    assert read.keys() == {"200", "401", "422", "500", "503"}
    assert created.keys() - read.keys() == {"400", "409", "413", "415", "429"}


def test_every_refusal_is_problem_details(paths: Any) -> None:
    for status, answer in paths["/things"]["get"]["responses"].items():
        if status != "200":
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def test_what_an_endpoint_says_itself_stays(paths: Any) -> None:
    answers = paths["/things"]["post"]["responses"]
    assert answers["409"]["description"] == answers["429"]["description"] == "Its own"


def test_of_graphql_only_what_is_read_may_be_the_wrong_method(paths: Any) -> None:
    read, posted = paths["/graphql"]["get"]["responses"], paths["/graphql"]["post"]["responses"]
    assert {"400", "405", "406"} <= read.keys()
    assert {"400", "406"} <= posted.keys()
    assert "405" not in posted
