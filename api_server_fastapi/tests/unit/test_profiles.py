"""Which faces are served is a setting."""

from collections.abc import Iterator

import httpx2
import pytest
import strawberry
from api_server.app import create_app
from api_server.application import Application
from api_server.exceptions import SettingsError
from api_server.foundation import FOUNDATION
from api_server.graphql.part import GraphQLPart
from api_server.profile import get_active_profiles
from api_server.services.di import forget_application, use_application
from api_server.settings import get_settings
from fastapi import APIRouter


@strawberry.type
class Query:
    @strawberry.field
    def greeting(self) -> str:
        return "hello"


def routers(path: str) -> tuple[APIRouter, ...]:
    router = APIRouter()

    @router.get(path)
    def endpoint() -> str:
        return path

    return (router,)


APPLICATION = Application(
    name="faces",
    version="1",
    routers=lambda: routers("/rest"),
    graphql=lambda: GraphQLPart(query=Query),
    profiles={"backoffice": lambda: routers("/backoffice")},
)
FACES = {"rest": "/rest", "graphql": "/graphql?query={greeting}", "backoffice": "/backoffice"}


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    forget_application()
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("setting", "active"),
    [
        ("", {"rest", "graphql", "backoffice"}),
        ("rest", {"rest"}),
        ("graphql", {"graphql"}),
        ("rest,graphql", {"rest", "graphql"}),
        (" GraphQL , Backoffice ", {"graphql", "backoffice"}),
    ],
)
async def test_only_the_chosen_faces_answer(setting: str, active: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_PROFILES", setting)
    app = create_app(APPLICATION)
    async with app.router.lifespan_context(app):
        assert get_active_profiles() == active
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            for name, path in FACES.items():
                assert (await client.get(path)).status_code == (200 if name in active else 404), name
            for path in ("/livez", "/ping", "/version"):
                assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "rest,soap",
            (
                "API_SERVER_PROFILES names soap, and may name backoffice, graphql, rest, several separated by commas; "
                "unset: all."
            ),
        ),
        ("carrier-pigeon,soap", "API_SERVER_PROFILES names carrier-pigeon, soap, and may name"),
        ("rest,,", "API_SERVER_PROFILES is 'rest,,', and"),
    ],
)
def test_an_unknown_face_stops_the_start_and_the_names_are_told(
    setting: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_SERVER_PROFILES", setting)
    with pytest.raises(SettingsError) as raised:
        create_app(APPLICATION)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("name", ["BackOffice", "rest", "graphql"])
def test_a_face_whose_name_cannot_be_chosen_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"the profile '{name}' should have a name in lower case that is none of"):
        Application(name="faces", version="1", profiles={name: tuple})


def test_the_foundation_has_two() -> None:
    use_application(FOUNDATION)
    assert get_active_profiles() == {"rest", "graphql"}
