"""What a user may have planned, and may see, is the same by every face: their own share, and their own rows."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from api_server.events import PresetChanged
from api_server.local.postgres import PostgresAddress
from api_server.testing import fresh_database
from live_clients import PYTHON, client
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, StartSequencer

PLANS, PRESETS, THROTTLE, SCENARIOS = (f"/api/v1/{name}" for name in ("plans", "presets", "throttle", "scenarios"))

SEARCH_MS = 80
ALLOWANCE_MS = 110

UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 10, "friction": 0.01}
TARGET = {**UNIT, "coordinate": {"x": 5000, "y": 0}}
STATE = {"player_units": [UNIT], "enemy_units": [TARGET]}
UNITS = {"playerUnits": [UNIT], "enemyUnits": [TARGET]}

Answer = Mapping[str, Any]
Ask = Callable[[Sequencer, str, str], Answer]


@pytest.fixture(scope="module")
def database(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer, database: PostgresAddress) -> Sequencer:
    """One of whose searches a user may have one in a minute: but for optimal ones, each uses up its time."""
    return start_shared_sequencer(
        **piccolo_environment(database),
        SEQUENCER_PERSISTENCE="piccolo",
        PICCOLO_DB_RUN_MIGRATIONS="true",
        SEQUENCER_PRINCIPAL_PLANNING_MS=str(ALLOWANCE_MS),
        SEQUENCER_TIMEOUT_MS=str(SEARCH_MS),
        SEQUENCER_GENERATIONS="1000000",
        SEQUENCER_MAX_SEQUENCE_LENGTH="1",
        SEQUENCER_STEP_INTERVAL_MS="1",
        SEQUENCER_LANE_WORKERS="1",
    )


@pytest.fixture
def ann() -> str:
    return f"ann-{uuid4()}"


@pytest.fixture
def bob() -> str:
    return f"bob-{uuid4()}"


def bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user}"}


def rest(sequencer: Sequencer, user: str, method: str, path: str, body: Any = None, **parameters: Any) -> Answer:
    """Return what is answered or, where it is refused, its code and after how many seconds it is not."""
    answer = sequencer.client.request(method, path, json=body, params=parameters, headers=bearer(user))
    document = answer.json() if answer.content else {}
    if answer.status_code < 400:
        return {"answer": document}
    retry_after = answer.headers.get("Retry-After")
    return {
        "code": document["code"],
        "status": answer.status_code,
        "retry_after": retry_after and int(retry_after),
        "fields": [error["field"] for error in document.get("errors", ())],
    }


def graphql(sequencer: Sequencer, user: str, query: str, **variables: Any) -> Answer:
    """Return the same of an operation, of which the first error counts."""
    body = {"query": query, "variables": variables}
    answer = sequencer.client.post("/graphql", json=body, headers=bearer(user))
    assert answer.status_code == 200, answer.text
    return told(answer.json())


def told(result: Any) -> Answer:
    if not result.get("errors"):
        return {"answer": result["data"]}
    extensions = result["errors"][0]["extensions"]
    return {"code": extensions["code"], "retry_after": extensions.get("retryAfter"), "errors": len(result["errors"])}


def watching(protocol: str, query: str, *named: str) -> Ask:
    """Subscribe, with the state or the scenario as the query has it, and return the first that comes."""

    def ask(sequencer: Sequencer, user: str, scenario: str) -> Answer:
        values = {"state": UNITS, "scenario": scenario}
        watch = client(protocol, sequencer.data)
        variables = {name: values[name] for name in named}
        arrivals = list(watch(f"{sequencer.url}/graphql", query, variables, f"Bearer {user}"))
        return told(arrivals[0].result)

    return ask


STEPS = "query($s: GameStateInputType!) { calculateThrottleSteps(gameStateInput: $s) { throttle } }"
PLAN = "query($s: GameStateInputType!) { planThrottle(gameStateInput: $s) { throttles } }"
STORE = "mutation($s: GameStateInputType!, $k: String) { storePlan(gameStateInput: $s, idempotencyKey: $k) { id } }"
GENERATE = "subscription($state: GameStateInputType!) { generateSteps(gameStateInput: $state) { throttle } }"
SCENARIO_STEPS = "query($s: UUID!) { calculateScenarioSteps(scenarioId: $s) { throttle } }"
SCENARIO_PLAN = "query($s: UUID!) { planScenario(scenarioId: $s) { throttles } }"
GENERATE_SCENARIO = "subscription($scenario: UUID!) { generateScenarioSteps(scenarioId: $scenario) { throttle } }"

OF_A_STATE: Mapping[str, Ask] = {
    "steps": lambda s, user, _: rest(s, user, "POST", f"{THROTTLE}/calculate_throttle_steps", STATE),
    "plan": lambda s, user, _: rest(s, user, "POST", f"{THROTTLE}/plan", STATE),
    "stored plan": lambda s, user, _: rest(s, user, "POST", PLANS, STATE),
    "GraphQL steps": lambda s, user, _: graphql(s, user, STEPS, s=UNITS),
    "GraphQL plan": lambda s, user, _: graphql(s, user, PLAN, s=UNITS),
    "GraphQL stored plan": lambda s, user, _: graphql(s, user, STORE, s=UNITS),
    **{f"live over {protocol}": watching(protocol, GENERATE, "state") for protocol in PYTHON},
}
OF_A_SCENARIO: Mapping[str, Ask] = {
    "scenario steps": lambda s, user, it: rest(s, user, "POST", f"{SCENARIOS}/{it}/calculate_throttle_steps"),
    "scenario plan": lambda s, user, it: rest(s, user, "POST", f"{SCENARIOS}/{it}/plan"),
    "GraphQL scenario steps": lambda s, user, it: graphql(s, user, SCENARIO_STEPS, s=it),
    "GraphQL scenario plan": lambda s, user, it: graphql(s, user, SCENARIO_PLAN, s=it),
    **{f"live scenario over {protocol}": watching(protocol, GENERATE_SCENARIO, "scenario") for protocol in PYTHON},
}
WAYS = {**OF_A_STATE, **OF_A_SCENARIO}


def kept_scenario(sequencer: Sequencer, user: str) -> str:
    body = {"kind": "scenario", "name": "duel", "document": STATE}
    scenario_id: str = rest(sequencer, user, "POST", PRESETS, body)["answer"]["id"]
    return scenario_id


def is_refused(answer: Answer) -> bool:
    if answer.get("code") != "RATE_LIMITED":
        return False
    assert answer.get("status") in (None, 429)
    # Some of the minute's planning has to be a minute old, and at most two are counted.
    assert 1 <= answer["retry_after"] <= 120
    return True


@pytest.mark.parametrize("way", WAYS)
def test_what_is_planned_by_one_way_is_not_left_for_another(sequencer: Sequencer, ann: str, bob: str, way: str) -> None:
    scenarios = {user: kept_scenario(sequencer, user) for user in (ann, bob)}
    assert "answer" in WAYS[way](sequencer, ann, scenarios[ann])
    assert is_refused(WAYS["plan"](sequencer, ann, scenarios[ann]))
    assert is_refused(WAYS[way](sequencer, ann, scenarios[ann]))
    assert "Traceback" not in sequencer.service.log


def test_of_many_at_once_as_many_are_planned_as_may_be(sequencer: Sequencer, ann: str, bob: str) -> None:
    with ThreadPoolExecutor(10) as threads:
        asked = [threads.submit(WAYS[way], sequencer, ann, "") for way in list(OF_A_STATE)[:5] * 2]
        assert sorted(is_refused(one.result()) for one in asked) == [False] + [True] * 9
    assert "answer" in WAYS["plan"](sequencer, bob, "")


def test_each_field_of_an_operation_is_paid_for(sequencer: Sequencer, ann: str) -> None:
    fields = " ".join(f"a{number}: storePlan(gameStateInput: $s) {{ id }}" for number in range(4))
    body = {"query": f"mutation($s: GameStateInputType!) {{ {fields} }}", "variables": {"s": UNITS}}
    answer = sequencer.client.post("/graphql", json=body, headers=bearer(ann)).json()
    assert [answer["data"][f"a{number}"] is not None for number in range(4)] == [True, False, False, False]
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"RATE_LIMITED"}
    # The fields of a query are planned at the same time.
    together = " ".join(f"a{number}: planThrottle(gameStateInput: $s) {{ score }}" for number in range(4))
    refused = graphql(sequencer, f"{ann}-2", f"query($s: GameStateInputType!) {{ {together} }}", s=UNITS)
    assert is_refused(refused)


def test_what_ends_early_costs_what_it_took(sequencer: Sequencer, ann: str, bob: str) -> None:
    body = {**STATE, "strategy": "optimal", "budget_ms": 40}

    def elapsed_ms(user: str) -> float:
        (plan,) = rest(sequencer, user, "POST", f"{THROTTLE}/plan", body)["answer"]["plans"]
        return float(plan["elapsed_ms"])

    # Until the process is warm a search may use up its budget.
    assert any(elapsed_ms(f"{bob}-{number}") < 5 for number in range(200))
    assert sum(elapsed_ms(ann) for _ in range(8)) < ALLOWANCE_MS < 8 * 40


def test_asking_again_for_a_stored_plan_costs_nothing(sequencer: Sequencer, ann: str) -> None:
    key = str(uuid4())
    kept = graphql(sequencer, ann, STORE, s=UNITS, k=key)
    assert "answer" in kept
    assert is_refused(graphql(sequencer, ann, STORE, s=UNITS, k=str(uuid4())))
    assert graphql(sequencer, ann, STORE, s=UNITS, k=key) == kept


def test_what_would_be_refused_for_ever_is_told_so(sequencer: Sequencer, ann: str) -> None:
    refused = rest(sequencer, ann, "POST", f"{THROTTLE}/plan", {**STATE, "budget_ms": ALLOWANCE_MS + 1})
    assert refused == {"code": "BEYOND_ALLOWANCE", "status": 422, "retry_after": None, "fields": ["budget_ms"]}
    query = "query($s: GameStateInputType!) { planThrottle(gameStateInput: $s, budgetMs: 111) { score } }"
    assert graphql(sequencer, ann, query, s=UNITS) == {"code": "BEYOND_ALLOWANCE", "retry_after": None, "errors": 1}
    assert "answer" in WAYS["plan"](sequencer, ann, "")


def test_the_documentation_tells_of_both(sequencer: Sequencer) -> None:
    paths = sequencer.client.get("/openapi.json").json()["paths"]
    planning = {
        path
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method == "post" and "429" in operation["responses"]
    }
    scenario = f"{SCENARIOS}/{{scenario_id}}"
    assert planning >= {
        PLANS,
        f"{THROTTLE}/plan",
        f"{THROTTLE}/calculate_throttle_steps",
        f"{scenario}/plan",
        f"{scenario}/calculate_throttle_steps",
    }
    for path in (PLANS, PRESETS):
        assert "403" in paths[path]["get"]["responses"]


READ_PLAN = "query($id: ID!) { plan(id: $id) { id ownerId } }"
LIST_PLANS = (
    "query($after: String, $owner: String) { plans(first: 100, after: $after, owner: $owner)"
    " { nodes { id ownerId } pageInfo { endCursor } } }"
)
READ_PRESET = "query($id: ID!) { preset(id: $id) { id ownerId } }"
LIST_LOG = "query Log($owner: String) { requestLog(first: 100, owner: $owner) { nodes { userId operationName } } }"


def kept_plan(sequencer: Sequencer, user: str, key: str | None = None) -> Answer:
    headers = bearer(user) | ({} if key is None else {"Idempotency-Key": key})
    answer = sequencer.client.post(PLANS, json={**STATE, "budget_ms": 20}, headers=headers)
    assert answer.status_code == 201, answer.text
    plan: Answer = answer.json()
    return plan


def test_nobody_reads_or_plans_with_what_is_somebody_elses(sequencer: Sequencer, ann: str, bob: str) -> None:
    plan, scenario = kept_plan(sequencer, ann)["id"], kept_scenario(sequencer, ann)
    asked = [
        rest(sequencer, bob, "GET", f"{PLANS}/{plan}"),
        rest(sequencer, bob, "GET", f"{PRESETS}/{scenario}"),
        rest(sequencer, bob, "PUT", f"{PRESETS}/{scenario}", {"version": 1, "name": "mine", "document": STATE}),
        rest(sequencer, bob, "DELETE", f"{PRESETS}/{scenario}", {"version": 1}),
        graphql(sequencer, bob, READ_PLAN, id=plan),
        graphql(sequencer, bob, READ_PRESET, id=scenario),
        *(ask(sequencer, bob, scenario) for ask in OF_A_SCENARIO.values()),
    ]
    assert [answer["code"] for answer in asked] == ["NOT_FOUND"] * len(asked)
    assert {answer["status"] for answer in asked if "status" in answer} == {404}
    aliases = " ".join(f'a{number}: plan(id: "{plan}") {{ id }}' for number in range(5))
    answer = sequencer.client.post("/graphql", json={"query": f"{{ {aliases} }}"}, headers=bearer(bob)).json()
    assert set(answer["data"].values()) == {None}


def test_nobody_lists_what_is_somebody_elses(sequencer: Sequencer, ann: str, bob: str) -> None:
    for _ in range(2):
        kept_plan(sequencer, ann)
    kept_scenario(sequencer, ann)
    for owner in (ann, "*"):
        asked = [
            rest(sequencer, bob, "GET", PLANS, owner=owner),
            rest(sequencer, bob, "GET", PRESETS, kind="scenario", owner=owner),
            graphql(sequencer, bob, LIST_PLANS, owner=owner),
            graphql(sequencer, bob, LIST_LOG, owner=owner),
            graphql(
                sequencer, bob, 'query($o: String) { presets(kind: "scenario", owner: $o) { nodes { id } } }', o=owner
            ),
        ]
        assert [answer["code"] for answer in asked] == ["FORBIDDEN"] * 5
        assert [answer["status"] for answer in asked[:2]] == [403, 403]
    own = kept_plan(sequencer, bob)["id"]
    theirs = graphql(sequencer, ann, LIST_PLANS)["answer"]["plans"]["pageInfo"]["endCursor"]
    assert theirs is not None
    for listed in (
        graphql(sequencer, bob, LIST_PLANS),
        graphql(sequencer, bob, LIST_PLANS, owner=bob),
    ):
        assert [node["id"] for node in listed["answer"]["plans"]["nodes"]] == [own]
    assert graphql(sequencer, bob, LIST_PLANS, after=theirs)["answer"]["plans"]["nodes"] == []
    assert rest(sequencer, bob, "GET", PLANS, cursor=theirs)["answer"]["items"] == []
    assert rest(sequencer, bob, "GET", PRESETS, kind="scenario")["answer"]["items"] == []


def test_a_key_is_the_one_of_who_uses_it(sequencer: Sequencer, ann: str, bob: str) -> None:
    key = str(uuid4())
    hers, his = kept_plan(sequencer, ann, key), kept_plan(sequencer, bob, key)
    assert hers["id"] != his["id"]
    assert (hers["owner_id"], his["owner_id"]) == (ann, bob)


def test_an_administrator_sees_whose_it_is_and_changes_nothing(sequencer: Sequencer, ann: str, bob: str) -> None:
    plans = {user: kept_plan(sequencer, user)["id"] for user in (ann, bob)}
    scenario = kept_scenario(sequencer, ann)
    assert rest(sequencer, "admin", "GET", f"{PLANS}/{plans[ann]}")["answer"]["owner_id"] == ann
    assert graphql(sequencer, "admin", READ_PLAN, id=plans[bob])["answer"]["plan"]["ownerId"] == bob
    assert rest(sequencer, "admin", "GET", f"{PRESETS}/{scenario}")["answer"]["owner_id"] == ann
    newest = rest(sequencer, "admin", "GET", PLANS, owner="*", limit=2)["answer"]["items"]
    assert [(item["id"], item["owner_id"]) for item in newest] == [(plans[bob], bob), (plans[ann], ann)]
    assert [item["id"] for item in rest(sequencer, "admin", "GET", PLANS, owner=ann)["answer"]["items"]] == [plans[ann]]
    assert graphql(sequencer, "admin", LIST_PLANS)["answer"]["plans"]["nodes"] == []
    listed = rest(sequencer, "admin", "GET", PRESETS, kind="scenario", owner=ann)["answer"]["items"]
    assert [(item["id"], item["owner_id"]) for item in listed] == [(scenario, ann)]
    assert "answer" in OF_A_SCENARIO["scenario plan"](sequencer, "admin", scenario)
    changed = rest(sequencer, "admin", "PUT", f"{PRESETS}/{scenario}", {"version": 1, "name": "x", "document": STATE})
    assert (changed["status"], rest(sequencer, ann, "GET", f"{PRESETS}/{scenario}")["answer"]["version"]) == (404, 1)


def test_an_administrator_sees_whose_requests_are_named(sequencer: Sequencer, ann: str, bob: str) -> None:
    def logged(owner: str) -> set[str]:
        answer = graphql(sequencer, "admin", LIST_LOG, owner=owner)["answer"]
        return {node["userId"] for node in answer["requestLog"]["nodes"]}

    for user in (ann, bob):
        graphql(sequencer, user, "query Mine { version { name } }")
    # They are written in batches, a moment later.
    for _ in range(100):
        if {ann, bob} <= logged("*"):
            break
    assert logged(ann) == {ann}
    assert {ann, bob} <= logged("*")


def test_an_event_tells_no_document() -> None:
    assert set(PresetChanged.__annotations__) == {"preset_id", "kind"}
