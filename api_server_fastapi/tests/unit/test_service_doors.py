"""Services: one object, whichever door it is asked for at."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any

import httpx2
import pytest
import strawberry
import svcs
from api_server.api.dependencies import provide, service_registry
from api_server.app import create_app
from api_server.application import Application
from api_server.foundation import FOUNDATION
from api_server.graphql.context import GraphQLContext
from api_server.graphql.part import GraphQLPart
from api_server.profile import get_active_profiles
from api_server.readiness_pipeline import ReadinessPipeline
from api_server.services.di import (
    forget_application,
    get_application,
    get_health_check_service,
    get_readiness_pipeline,
    get_registry,
    use_application,
)
from api_server.services.health_check_service import HealthCheckService
from api_server.services.registry import ServiceRegistry
from fastapi import APIRouter, Depends
from strawberry.types import Info

SNIPPET = """
from functools import lru_cache

class YourService:
    def __init__(self):
        self.dependency = get_dependency_service()

@lru_cache
def get_your_service() -> YourService:
    return YourService()
"""


class Dependency:
    pass


@lru_cache
def get_dependency_service() -> Dependency:
    return Dependency()


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    yield
    forget_application()
    get_dependency_service.cache_clear()


@pytest.fixture
def snippet() -> dict[str, Any]:
    namespace: dict[str, Any] = {"get_dependency_service": get_dependency_service}
    exec(SNIPPET, namespace)
    return namespace


def test_the_snippet_of_a_service_of_one_s_own_works_as_it_stands(snippet: dict[str, Any]) -> None:
    def register(registry: ServiceRegistry) -> None:
        registry.register_singleton(Dependency, get_dependency_service)
        registry.register_singleton(snippet["YourService"], snippet["get_your_service"])

    registry = use_application(Application(name="yours", version="1", register=register))
    service = snippet["get_your_service"]()
    assert registry.get(snippet["YourService"]) is service
    assert service.dependency is registry.get(Dependency) is get_dependency_service()
    with svcs.Container(registry) as container:
        assert container.get(snippet["YourService"]) is service


def test_a_factory_gives_each_container_its_own() -> None:
    def register(registry: ServiceRegistry) -> None:
        registry.register_factory(Dependency, Dependency)

    registry = use_application(Application(name="yours", version="1", register=register))
    with svcs.Container(registry) as one, svcs.Container(registry) as other:
        assert one.get(Dependency) is not other.get(Dependency)


async def test_a_closed_registry_takes_its_cached_services_with_it() -> None:
    registry = ServiceRegistry()
    registry.register_singleton(Dependency, get_dependency_service)
    first = registry.get(Dependency)
    await registry.aclose()
    assert get_dependency_service() is not first


def test_the_foundation_s_services_are_the_getters() -> None:
    registry = use_application(FOUNDATION)
    assert get_registry() is registry
    assert get_application() is FOUNDATION
    assert registry.get(HealthCheckService) is get_health_check_service()
    assert registry.get(ReadinessPipeline) is get_readiness_pipeline()


def test_what_the_getters_give_cannot_be_replaced_at_the_other_door() -> None:
    def register(registry: ServiceRegistry) -> None:
        registry.register_singleton(HealthCheckService, lambda: HealthCheckService(get_readiness_pipeline()))

    registry = use_application(Application(name="mine", version="1", register=register))
    assert registry.get(HealthCheckService) is get_health_check_service()


def test_services_that_share_a_name_are_pinged_both() -> None:
    asked: list[str] = []
    registry = ServiceRegistry()
    for number in range(2):
        client = type("Client", (), {"__module__": f"module_{number}"})
        registry.register_factory(client, client, ping=lambda service: asked.append(type(service).__module__))
    registry.register_factory(Dependency, Dependency, ping=lambda service: asked.append("dependency"))
    pings = registry.pings()
    assert {name.rpartition(".")[2] for name in pings} == {"Client", "Dependency"}
    assert "Dependency" in pings
    for ping in pings.values():
        ping()
    assert sorted(asked) == ["dependency", "module_0", "module_1"]


class TestOncePerProcess:
    def test_the_same_application_is_used_once(self) -> None:
        assert use_application(FOUNDATION) is use_application(FOUNDATION)

    def test_a_second_one_is_refused_by_name(self) -> None:
        use_application(FOUNDATION)
        with pytest.raises(RuntimeError, match="uses the application 'api_server' already and cannot use 'other'"):
            use_application(Application(name="other", version="1"))

    def test_it_can_be_forgotten(self) -> None:
        use_application(FOUNDATION)
        first = get_health_check_service()
        forget_application()
        use_application(Application(name="other", version="1"))
        assert get_application().name == "other"
        assert get_health_check_service() is not first

    def test_a_registration_that_fails_uses_nothing(self) -> None:
        def register(registry: ServiceRegistry) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            use_application(Application(name="broken", version="1", register=register))
        use_application(FOUNDATION)

    @pytest.mark.parametrize("getter", [get_registry, get_application, get_health_check_service, get_active_profiles])
    def test_without_one_the_getters_say_what_is_missing(self, getter: Callable[[], object]) -> None:
        with pytest.raises(RuntimeError, match=r"no application is in use: use_application\(\) comes first"):
            getter()


async def test_every_door_of_an_app_gives_the_same_object() -> None:
    router = APIRouter()
    seen: list[object] = []

    @router.get("/seen")
    async def endpoint(
        provided: Annotated[Dependency, provide(Dependency)],
        registry: Annotated[ServiceRegistry, Depends(service_registry)],
    ) -> None:
        seen.extend([provided, registry.get(Dependency)])

    @strawberry.type
    class Query:
        @strawberry.field
        async def seen(self, info: Info[GraphQLContext, None]) -> bool:
            seen.extend([info.context.services.get(Dependency), info.context.registry.get(Dependency)])
            return True

    def register(registry: ServiceRegistry) -> None:
        registry.register_singleton(Dependency, get_dependency_service)

    application = Application(
        name="seen", version="1", register=register, routers=lambda: (router,), graphql=lambda: GraphQLPart(query=Query)
    )
    app = create_app(application)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/seen")).status_code == 200
            assert (await client.post("/graphql", json={"query": "{seen}"})).json() == {"data": {"seen": True}}
        assert get_application() is application
        assert len(seen) == 4
        assert set(map(id, seen)) == {id(get_dependency_service())}
        served = get_health_check_service()
    with pytest.raises(RuntimeError, match="no application is in use"):
        get_health_check_service()
    async with app.router.lifespan_context(app):
        assert get_health_check_service() is not served
