"""Liveness and the readiness report over HTTP: who may ask, what they see, what it costs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from statistics import quantiles
from typing import Any

import httpx2
import pytest
from api_server.app import create_app
from api_server.application import Application
from api_server.readiness_pipeline import ReadinessCheck, ReadinessStage
from api_server.services.di import get_health_check_service
from api_server.settings import get_settings
from api_server.testing import Serve
from scripted_checks import GatedCheck, ScriptedCheck, good

LIVENESS = ("/livez", "/ping")
READINESS = ("/readyz", "/health-check", "/api/v1/health")


def tells(check: ReadinessCheck) -> Any:
    return check.success("fine", {"seen": "by operators"})


def service(*checks: ReadinessCheck, critical: bool = True) -> Application:
    """Be a service without a database, with one stage of these checks."""
    stage = ReadinessStage("own", checks, is_critical=critical)
    return Application(name="probed", version="1", stages=lambda: (stage,), uses_database=lambda: False)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_TYPE", "production")


@pytest.fixture
def check() -> ScriptedCheck:
    return ScriptedCheck(tells, run_once=True)


@pytest.fixture
async def client(serve: Serve, check: ScriptedCheck) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(create_app(service(check))) as client:
        yield client


@pytest.mark.parametrize("path", READINESS)
async def test_the_report_has_three_names(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    body = answer.json()
    assert (answer.status_code, body["is_ready"], body["state"]) == (200, True, "operational")
    assert [stage["name"] for stage in body["stages"]] == ["database", "own"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await client.head(path)).status_code == 200
    assert (await client.post(path)).json()["state"] == "operational"


@pytest.mark.parametrize("path", LIVENESS)
async def test_liveness_has_two_and_answers_whatever_the_state(serve: Serve, path: str) -> None:
    async with serve(create_app(service(ScriptedCheck(lambda check: check.failed("broken"))))) as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_service_that_keeps_nothing_in_a_database_does_not_miss_one(client: httpx2.AsyncClient) -> None:
    database = (await client.get("/readyz")).json()["stages"][0]
    assert {check["status"] for check in database["checks"]} == {"not_applicable"}


@pytest.mark.parametrize(("critical", "status", "state"), [(True, 503, "error"), (False, 200, "degraded")])
async def test_what_fails_is_told_with_its_status(serve: Serve, critical: bool, status: int, state: str) -> None:
    broken = ScriptedCheck(lambda check: check.failed("broken"))
    async with serve(create_app(service(broken, critical=critical))) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["state"]) == (status, state)
        assert answer.json()["stages"][1]["checks"][0]["message"] == "broken"


async def test_a_process_that_drains_or_whose_report_is_stale_is_not_ready(client: httpx2.AsyncClient) -> None:
    health = get_health_check_service()
    health._stale_after = 0
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["state"], answer.json()["is_stale"]) == (503, "operational", True)
    health._stale_after = 60
    assert (await client.get("/readyz")).status_code == 200
    health.drain()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["state"], answer.json()["is_draining"]) == (503, "operational", True)
    assert (await client.get("/livez")).status_code == 200


class TestWhoMaySee:
    async def test_details_are_for_who_is_known(self, client: httpx2.AsyncClient) -> None:
        """In development that is everybody."""
        (check,) = (await client.get("/readyz")).json()["stages"][1]["checks"]
        assert check["details"] == {"seen": "by operators"}

    @pytest.mark.parametrize("path", READINESS)
    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "nonsense"}])
    async def test_a_stranger_sees_the_state_and_no_details(
        self, serve: Serve, check: ScriptedCheck, in_production: None, path: str, headers: dict[str, str]
    ) -> None:
        async with serve(create_app(service(check))) as client:
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["state"]) == (200, "operational")
            assert "details" not in answer.text
            assert "by operators" not in answer.text

    @pytest.mark.parametrize("path", READINESS)
    async def test_a_stranger_makes_nothing_run(
        self, serve: Serve, check: ScriptedCheck, in_production: None, path: str
    ) -> None:
        async with serve(create_app(service(check))) as client:
            answer = await client.post(path, params={"force_rerun": True})
            assert answer.status_code == 401
            assert check.runs == 1

    async def test_liveness_asks_nobody_who_they_are(self, serve: Serve, in_production: None) -> None:
        async with serve(create_app(service())) as client:
            assert (await client.get("/livez", headers={"Authorization": "nonsense"})).status_code == 200


class TestForcedRuns:
    @pytest.mark.parametrize("path", READINESS)
    async def test_checks_that_run_once_run_again(
        self, client: httpx2.AsyncClient, check: ScriptedCheck, path: str
    ) -> None:
        await client.post(path)
        assert check.runs == 1
        check.answer = lambda check: check.failed("broken since")
        answer = await client.post(path, params={"force_rerun": True})
        assert (answer.status_code, answer.json()["state"], check.runs) == (503, "error", 2)
        assert (await client.get(path)).status_code == 503

    async def test_by_get_it_is_refused_by_name(self, client: httpx2.AsyncClient, check: ScriptedCheck) -> None:
        answer = await client.get("/readyz", params={"force_rerun": True})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "force_rerun", "rule": "is for POST, with an identity"}]
        assert check.runs == 1

    async def test_what_is_no_boolean_is_refused_by_name(self, client: httpx2.AsyncClient) -> None:
        answer = await client.post("/readyz", params={"force_rerun": "perhaps"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "force_rerun"

    async def test_a_thousand_at_once_share_a_run(self, serve: Serve, check: ScriptedCheck) -> None:
        gated = GatedCheck("gated", timeout=30)
        gated.gate.set()
        async with serve(create_app(service(check, gated))) as client:
            gated.gate.clear()
            before = (check.runs, gated.runs)
            asked = [asyncio.create_task(client.post("/readyz?force_rerun=true", timeout=60)) for _ in range(90)]
            while gated.runs == before[1]:
                await asyncio.sleep(0.01)
            probes = await asyncio.gather(*(client.get("/livez", timeout=60) for _ in range(910)))
            gated.gate.set()
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in [*answers, *probes]} == {200}
        # Those that came while it ran; one that the client sent too late may have made another.
        assert check.runs - before[0] <= 2


class TestWhatItCosts:
    async def test_a_thousand_probes_run_no_check(self, client: httpx2.AsyncClient, check: ScriptedCheck) -> None:
        check.run_once = False
        before = check.runs
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(1000)))
        assert {answer.status_code for answer in answers} == {200}
        # Only the refresh in the background does, every five seconds.
        assert check.runs - before <= 1 + (time.monotonic() - began) / 4

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "hangs",
        [
            pytest.param(lambda: GatedCheck(timeout=600), marks=pytest.mark.slow, id="awaiting"),
            pytest.param(lambda: ScriptedCheck(sleeps, timeout=600), id="blocking"),
        ],
    )
    async def test_a_check_that_hangs_for_ever_delays_neither_liveness_nor_the_report(
        self, serve: Serve, hangs: Callable[[], ReadinessCheck]
    ) -> None:
        began = time.monotonic()
        async with serve(create_app(service(hangs(), ScriptedCheck(good, "well")))) as client:
            # The first report, which precedes the first answer, took its budget.
            assert 5 <= time.monotonic() - began < 7
            seconds: list[float] = []
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                asked = time.perf_counter()
                assert (await client.get("/livez")).status_code == 200
                seconds.append(time.perf_counter() - asked)
                await asyncio.sleep(0.005)
            assert quantiles(seconds, n=100)[98] <= 0.05
            asked = time.perf_counter()
            answer = await client.get("/readyz")
            assert time.perf_counter() - asked <= 0.05
            assert answer.status_code == 503
            hanging, well = answer.json()["stages"][1]["checks"]
            assert (hanging["status"], well["status"]) == ("failed", "success")
            assert answer.json()["age_s"] <= 10
        # Nor does it hold up the end.
        assert time.monotonic() - until < 3


def sleeps(check: ReadinessCheck) -> Any:
    time.sleep(30)


async def test_the_endpoints_are_documented(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in LIVENESS:
        assert set(paths[path]) == {"get"}
    for path in READINESS:
        assert set(paths[path]) == {"get", "post"}
        for method in ("get", "post"):
            responses = paths[path][method]["responses"]
            for status in ("200", "503"):
                schema = responses[status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ReadinessDto"}
        (parameter,) = paths[path]["post"]["parameters"]
        assert parameter["name"] == "force_rerun"
    operations = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(operations)) == len(operations)


@pytest.mark.parametrize(("path", "allowed"), [("/livez", {"GET", "HEAD"}), ("/readyz", {"GET", "HEAD", "POST"})])
async def test_what_is_not_allowed_tells_what_is(client: httpx2.AsyncClient, path: str, allowed: set[str]) -> None:
    answer = await client.delete(path)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed
