"""Stored plans of a real service over real sockets and a real database: REST and GraphQL promise the same."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
import sequencer_in_doubt
from api_server.local.postgres import PostgresAddress
from api_server.testing import StartService, fresh_database
from piccolo_database import piccolo_environment
from planning_cases import own_score
from sequencer_process import ROOT, Sequencer, StartSequencer
from throttling_sequencer.domain.navigation import Objective, PlanningProblem

PATH = "/api/v1/plans"
PLAN = """
id ownerId idempotencyKey strategy seed createdAt
request {
  playerUnits { x y speeds masses frictions } enemyUnits { x y speeds masses frictions } strategy budgetMs seed targets
}
plans {
  unit target throttles score scoreParts { distance speed length nonzero } lowerBound gap finalSpeed distanceCovered
}
"""
STORE = f"""
mutation Store(
  $state: GameStateInputType!, $key: String, $strategy: String, $budgetMs: Int, $seed: Int, $targets: [Int!]
) {{
  storePlan(
    gameStateInput: $state, idempotencyKey: $key, strategy: $strategy, budgetMs: $budgetMs, seed: $seed,
    targets: $targets
  ) {{ {PLAN} }}
}}
"""
READ = f"query Read($id: ID!) {{ plan(id: $id) {{ {PLAN} }} }}"
LIST = f"""
query List($first: Int!, $after: String) {{
  plans(first: $first, after: $after) {{ nodes {{ {PLAN} }} pageInfo {{ endCursor hasNextPage }} }}
}}
"""

JSON = {"Content-Type": "application/json"}

Answer = dict[str, Any]


def unit(x: float, y: float = 0.0, **values: float) -> dict[str, Any]:
    return {"coordinate": {"x": x, "y": y}, "speed": 0.0, "mass": 10.0, "friction": 0.01, **values}


STATE = {"player_units": [unit(0), unit(900, 40, speed=-3.5)], "enemy_units": [unit(-500, 3000), unit(1000, -60)]}


@pytest.fixture(scope="module")
def database(postgres: PostgresAddress) -> Iterator[PostgresAddress]:
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture(scope="module")
def sequencer(start_shared_sequencer: StartSequencer, database: PostgresAddress) -> Sequencer:
    return start_shared_sequencer(
        **piccolo_environment(database),
        SEQUENCER_PERSISTENCE="piccolo",
        PICCOLO_DB_RUN_MIGRATIONS="true",
        SEQUENCER_TIMEOUT_MS="20",
        SEQUENCER_GENERATIONS="2",
        SEQUENCER_POPULATION_SIZE="30",
        SEQUENCER_LANE_WAITING_MS="60000",
    )


def authorization(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user}"}


class Rest:
    """Stored plans over REST."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.client = sequencer.client

    def store(self, state: Any = STATE, *, key: str | None = None, user: str = "ann", **wishes: Any) -> Answer:
        headers = authorization(user) | JSON | ({} if key is None else {"Idempotency-Key": key})
        answer = self.client.post(PATH, content=json.dumps({**state, **wishes}), headers=headers)
        if answer.status_code != 201:
            return problem(answer)
        plan: Answer = answer.json()
        assert answer.headers["Location"] == f"{PATH}/{plan['id']}"
        assert answer.headers["Idempotency-Key"] == plan["idempotency_key"]
        return plan

    def read(self, plan_id: str, user: str = "ann") -> Answer:
        answer = self.client.get(f"{PATH}/{plan_id}", headers=authorization(user))
        return dict(answer.json()) if answer.status_code == 200 else problem(answer)

    def page(self, first: int, after: str | None = None, user: str = "ann") -> tuple[list[Answer], str | None]:
        query = {"limit": first} | ({} if after is None else {"cursor": after})
        answer = self.client.get(PATH, params=query, headers=authorization(user))
        assert answer.status_code == 200, answer.text
        return answer.json()["items"], answer.json()["next_cursor"]


class Graphql:
    """Stored plans over GraphQL, told as REST spells them."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.client = sequencer.client

    def _asked(self, query: str, user: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables})
        answer = self.client.post("/graphql", content=body, headers=authorization(user) | JSON)
        assert answer.status_code == 200, answer.text
        if "errors" not in answer.json():
            return answer.json()["data"]
        (error,) = answer.json()["errors"]
        assert set(answer.json()["data"].values()) == {None}
        extensions = error["extensions"]
        assert extensions["code"] != "INTERNAL_SERVER_ERROR", error
        return {"code": extensions["code"], "field": snake_name(extensions.get("field", "")) or None}

    def store(self, state: Any = STATE, *, key: str | None = None, user: str = "ann", **wishes: Any) -> Answer:
        variables = {camel_name(name): value for name, value in wishes.items()}
        units = {"playerUnits": state["player_units"], "enemyUnits": state["enemy_units"]}
        data = self._asked(STORE, user, state=units, key=key, **variables)
        return data if "code" in data else told(data["storePlan"])

    def read(self, plan_id: str, user: str = "ann") -> Answer:
        data = self._asked(READ, user, id=plan_id)
        return data if "code" in data else told(data["plan"])

    def page(self, first: int, after: str | None = None, user: str = "ann") -> tuple[list[Answer], str | None]:
        page = self._asked(LIST, user, first=first, after=after)["plans"]
        cursor = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
        return [told(node) for node in page["nodes"]], cursor


Face = Rest | Graphql


def problem(answer: httpx2.Response) -> Answer:
    document = answer.json()
    assert answer.status_code < 500, answer.text
    field = document["errors"][0]["field"].lower().replace("-", "_") if "errors" in document else None
    return {"code": document["code"], "field": field}


def told(plan: Any) -> Answer:
    """Tell a plan of GraphQL as REST does."""
    plan = snake(plan)
    request = plan["request"]
    for side in ("player_units", "enemy_units"):
        columns = request[side]
        request[side] = [
            {"coordinate": {"x": x, "y": y}, "speed": speed, "mass": mass, "friction": friction}
            for x, y, speed, mass, friction in zip(*(columns[name] for name in columns), strict=True)
        ]
    plan["created_at"] = plan["created_at"].replace("+00:00", "Z")
    return dict(plan)


def snake_name(name: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def camel_name(name: str) -> str:
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)


def snake(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake_name(key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(params=[Rest, Graphql])
def face(request: pytest.FixtureRequest, sequencer: Sequencer) -> Face:
    face: Face = request.param(sequencer)
    return face


@pytest.fixture
def both(sequencer: Sequencer) -> tuple[Face, Face]:
    return Rest(sequencer), Graphql(sequencer)


def new_key() -> str:
    return f"key {uuid4()}"


def rows(database: PostgresAddress, condition: str, *values: object) -> list[dict[str, Any]]:
    query = f"SELECT * FROM throttling_sequencer.plan WHERE {condition}"
    with psycopg.connect(database.url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(query.encode(), values).fetchall()


def test_a_plan_is_kept_with_all_that_explains_it(face: Face, database: PostgresAddress) -> None:
    key = new_key()
    plan = face.store(key=key, strategy="random", budget_ms=50, targets=[1, 0])
    assert (plan["idempotency_key"], plan["strategy"]) == (key, "random")
    assert plan["request"] == {**STATE, "strategy": "random", "budget_ms": 50, "seed": None, "targets": [1, 0]}
    assert [(one["unit"], one["target"]) for one in plan["plans"]] == [(0, 1), (1, 0)]
    for one in plan["plans"]:
        player, enemy = STATE["player_units"][one["unit"]], STATE["enemy_units"][one["target"]]
        dx, dy = (enemy["coordinate"][axis] - player["coordinate"][axis] for axis in "xy")
        distance = (dx * dx + dy * dy) ** 0.5
        judged = PlanningProblem(distance, player["speed"], player["mass"], player["friction"], Objective())
        assert one["score"] == pytest.approx(own_score(judged, one["throttles"]), rel=1e-9)
        assert one["score"] == pytest.approx(sum(one["score_parts"].values()), rel=1e-12)
    assert face.read(plan["id"]) == plan
    (row,) = rows(database, "key = %s", key)
    assert (str(row["id"]), row["owner_id"], row["attempts"], row["seed"]) == (plan["id"], "ann", 1, plan["seed"])
    assert row["throttles"] == [one["throttles"] for one in plan["plans"]]
    assert {name: row["request"][name] for name in ("player_units", "strategy")} == {
        "player_units": STATE["player_units"],
        "strategy": "random",
    }


def test_the_seed_of_a_plan_repeats_it(face: Face) -> None:
    first = face.store(strategy="genetic", budget_ms=5000)
    assert first["request"]["seed"] is None
    again = face.store(strategy="genetic", budget_ms=5000, seed=first["seed"])
    assert [one["throttles"] for one in again["plans"]] == [one["throttles"] for one in first["plans"]]


def test_what_one_face_keeps_the_other_finds(both: tuple[Face, Face]) -> None:
    for one, other in (both, both[::-1]):
        plan = one.store(key=new_key())
        assert other.read(plan["id"]) == plan
        assert other.page(1)[0] == [plan]


def test_the_same_request_by_the_same_key_is_the_same_plan(both: tuple[Face, Face], database: PostgresAddress) -> None:
    for one, other in (both, both[::-1]):
        key = new_key()
        plan = one.store(key=key)
        assert other.store(key=key) == plan
        assert one.store(key=key) == plan
        assert [row["attempts"] for row in rows(database, "key = %s", key)] == [3]


SAME: Mapping[str, str] = {
    "integers": '{"player_units":[{"coordinate":{"x":0,"y":3},"speed":2,"mass":10,"friction":0}],'
    '"enemy_units":[ENEMY]}',
    "floats": '{"player_units":[{"coordinate":{"x":0.0,"y":3e0},"speed":2.0,"mass":1e1,"friction":0.0}],'
    '"enemy_units":[ENEMY]}',
    "negative zeros": '{"player_units":[{"coordinate":{"x":-0.0,"y":3},"speed":2,"mass":10,"friction":-0.0}],'
    '"enemy_units":[ENEMY]}',
    "another order": '{"enemy_units":[ENEMY],"player_units":[{"friction":0,"mass":10,"speed":2,'
    '"coordinate":{"y":3,"x":0}}]}',
    "explicit nulls": '{"player_units":[{"coordinate":{"x":0,"y":3},"speed":2,"mass":10,"friction":0}],'
    '"enemy_units":[ENEMY],"strategy":null,"budget_ms":null,"seed":null,"targets":null}',
}


def test_what_means_the_same_is_the_same_request(both: tuple[Face, Face]) -> None:
    rest, graphql = both
    key = new_key()
    enemy = json.dumps(unit(10**6))
    states = [json.loads(text.replace("ENEMY", enemy)) for text in SAME.values()]
    plans = [face.store(state, key=key) for state in states for face in (rest, graphql)]
    assert plans == [plans[0]] * len(plans)


@pytest.mark.parametrize("wish", [{"seed": 3}, {"strategy": "genetic"}, {"budget_ms": 20}, {"targets": [1, 1]}])
def test_another_request_by_the_same_key_is_refused(both: tuple[Face, Face], wish: Answer) -> None:
    for one, other in (both, both[::-1]):
        key = new_key()
        plan = one.store(key=key)
        assert other.store(key=key, **wish) == {"code": "IDEMPOTENCY_KEY_REUSED", "field": "idempotency_key"}
        assert other.store(key=key) == plan


def test_without_a_key_each_request_is_another_plan(face: Face) -> None:
    plans = [face.store(seed=1) for _ in range(2)]
    assert plans[0]["idempotency_key"] != plans[1]["idempotency_key"]
    assert plans[0]["id"] < plans[1]["id"]
    assert {UUID(plan["id"]).version for plan in plans} == {7}
    assert face.store(key=plans[0]["idempotency_key"], seed=1) == plans[0]


def test_one_operation_reads_so_much_and_no_more(sequencer: Sequencer) -> None:
    pages = " ".join(f"p{number}: plans(first: 1) {{ pageInfo {{ hasNextPage }} }}" for number in range(6))
    answer = sequencer.graphql(f"{{ {pages} version {{ name }} }}")
    told = [error["message"] for error in answer["errors"]]
    assert told == ["query should read at most 4 pages of plans, or 20 plans"] * 2
    assert sum(answer["data"][f"p{number}"] is not None for number in range(6)) == 4
    assert answer["data"]["version"] is not None
    assert "errors" not in sequencer.graphql("{ plans(first: 1) { pageInfo { hasNextPage } } }")


def test_a_made_up_digit_is_none(sequencer: Sequencer) -> None:
    answer = sequencer.graphql('{ plan(id: "\u0661\u0662345678-1234-7234-8234-123456789012") { id } }')
    assert answer["errors"][0]["extensions"]["code"] == "INVALID_VALUE"


def test_fifty_at_once_by_one_key_are_one_plan(both: tuple[Face, Face], database: PostgresAddress) -> None:
    key = new_key()
    with ThreadPoolExecutor(50) as threads:
        asked = [threads.submit(both[number % 2].store, key=key) for number in range(50)]
        plans = [one.result() for one in asked]
    assert plans == [plans[0]] * 50
    assert plans[0]["idempotency_key"] == key
    (row,) = rows(database, "key = %s", key)
    assert row["attempts"] >= 50


def test_users_have_their_own_plans_and_keys(face: Face) -> None:
    key, ann, bob = new_key(), f"ann-{uuid4()}", f"bob-{uuid4()}"
    hers = face.store(key=key, user=ann)
    his = face.store(key=key, user=bob, seed=5)
    assert hers["id"] != his["id"]
    assert face.read(hers["id"], user=bob) == {"code": "NOT_FOUND", "field": None}
    assert face.page(10, user=bob) == ([his], None)
    assert face.page(10, user=ann) == ([hers], None)


def test_pages_follow_each_other(face: Face) -> None:
    user = f"pages-{uuid4()}"
    plans = [face.store(user=user) for _ in range(5)]
    seen, cursor = face.page(2, user=user)
    while cursor is not None:
        page, cursor = face.page(2, cursor, user=user)
        seen += page
    assert seen == plans[::-1]


def test_a_page_of_large_plans_is_short(face: Face, sequencer: Sequencer) -> None:
    user = f"large-{uuid4()}"
    state = {"player_units": [unit(number) for number in range(350)], "enemy_units": [unit(10**6)]}
    for _ in range(3):
        Rest(sequencer).store(state, user=user, budget_ms=400)
    seen, cursor = face.page(100, user=user)
    assert 1 <= len(seen) < 3
    assert cursor is not None
    assert len(seen[0]["plans"]) == 350


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_a_key_that_cannot_be_is_refused(face: Face, key: str) -> None:
    if isinstance(face, Rest):
        answer = face.client.post(PATH, json=STATE, headers=[(b"Idempotency-Key", key.encode())])
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"field": "Idempotency-Key", "rule": "should be 1 to 255 printable ASCII characters"}
        ]
    else:
        assert face.store(key=key) == {"code": "INVALID_VALUE", "field": "idempotency_key"}


@pytest.mark.parametrize("key", ["a\x00b", "a\nb", "\x7f"])
def test_control_characters_are_refused(both: tuple[Face, Face], key: str) -> None:
    assert both[1].store(key=key) == {"code": "INVALID_VALUE", "field": "idempotency_key"}
    raw = sent_raw(both[0].client.base_url.port, key.encode())
    assert re.match(rb"HTTP/1\.1 4(00|22) ", raw), raw


def sent_raw(port: int | None, key: bytes) -> bytes:
    """Send what no client would, and return the answer."""
    body = json.dumps(STATE).encode()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n" % PATH.encode()
    with socket.create_connection(("127.0.0.1", port or 0), timeout=10) as connection:
        connection.sendall(head + b"Idempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (key, len(body), body))
        return connection.makefile("rb").read()


def test_two_keys_are_refused(sequencer: Sequencer) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "one")]
    answer = sequencer.client.post(PATH, json=STATE, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "Idempotency-Key", "rule": "should be given once"}]


def test_rest_names_the_header_where_a_key_is_that_of_another_request(sequencer: Sequencer) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    assert sequencer.client.post(PATH, json=STATE, headers=headers).status_code == 201
    answer = sequencer.client.post(PATH, json={**STATE, "seed": 1}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "Idempotency-Key", "rule": "should be a new one: it is that of another request"}
    ]


@pytest.mark.parametrize(
    ("quoted", "key", "written"),
    [
        ('"QUOTED"', "QUOTED", "QUOTED"),
        (r'"\"QUOTED\" \\"', '"QUOTED" \\', r'"\"QUOTED\" \\"'),
        ('" QUOTED"', " QUOTED", '" QUOTED"'),
    ],
)
def test_a_key_may_stand_in_quotes(sequencer: Sequencer, quoted: str, key: str, written: str) -> None:
    unique = str(uuid4())
    quoted, key, written = (text.replace("QUOTED", unique) for text in (quoted, key, written))
    headers = authorization("ann")
    first = sequencer.client.post(PATH, json=STATE, headers={**headers, "Idempotency-Key": quoted})
    assert first.status_code == 201, first.text
    assert first.json()["idempotency_key"] == key
    assert first.headers["Idempotency-Key"] == written
    assert "Idempotency-Replayed" not in first.headers
    again = sequencer.client.post(
        PATH, json=STATE, headers={**headers, "Idempotency-Key": first.headers["Idempotency-Key"]}
    )
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert Graphql(sequencer).store(key=key) == first.json()


@pytest.mark.parametrize("broken", ['"', '"a', '"a"b', '"a";b=1', r'"a\b"'])
def test_quotes_that_do_not_close_are_refused(sequencer: Sequencer, broken: str) -> None:
    answer = sequencer.client.post(PATH, json=STATE, headers={"Idempotency-Key": broken})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"strategy": "magic"}, "strategy"),
        ({"strategy": "a\x00b"}, "strategy"),
        ({"strategy": "\ud800"}, "strategy"),
        ({"seed": -1}, "seed"),
        ({"budget_ms": 0}, "budget_ms"),
        ({"budget_ms": 10_000}, "budget_ms"),
        ({"targets": [0]}, "targets"),
        ({"targets": [0, 2]}, "targets[1]"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_not_kept(
    face: Face, database: PostgresAddress, wish: Answer, field: str
) -> None:
    key = new_key()
    for given in (key, None):
        refused = face.store(key=given, **wish)
        assert refused["code"] in ("INVALID_VALUE", "UNKNOWN_STRATEGY")
        assert refused["field"] == field
    assert rows(database, "key = %s", key) == []


def test_rest_refuses_what_it_does_not_know(sequencer: Sequencer) -> None:
    client = sequencer.client
    answer = client.post(PATH, json={**STATE, "include": ["trajectory"]})
    assert answer.json()["errors"] == [{"field": "include", "rule": "is not known here"}]
    for query, field in (("limit=0", "limit"), ("limit=101", "limit"), ("cursor=%00", "cursor"), ("x=1", "x")):
        answer = client.get(f"{PATH}?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert client.get(f"{PATH}/nonsense").json()["errors"][0]["field"] == "id"
    assert client.get(f"{PATH}/{uuid4()}").json()["code"] == "NOT_FOUND"
    for method, path, allowed in (
        ("PUT", PATH, "GET, HEAD, POST"),
        ("DELETE", PATH, "GET, HEAD, POST"),
        ("POST", f"{PATH}/{uuid4()}", "GET, HEAD"),
        ("DELETE", f"{PATH}/{uuid4()}", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert client.head(PATH).status_code == 200


def test_graphql_refuses_what_is_no_id_and_no_cursor(sequencer: Sequencer) -> None:
    face = Graphql(sequencer)
    assert face.read("nonsense") == {"code": "INVALID_VALUE", "field": "id"}
    assert face.read("\x00") == {"code": "INVALID_VALUE", "field": "id"}
    assert face.read(str(uuid4())) == {"code": "NOT_FOUND", "field": None}
    for variables in ({"first": 0}, {"first": 101}, {"first": 1, "after": "a\x00"}):
        (error,) = sequencer.graphql(LIST, **variables)["errors"]
        assert error["extensions"]["field"] in variables


def test_the_documentation_tells_of_keys_and_headers(sequencer: Sequencer) -> None:
    document = sequencer.client.get("/openapi.json").json()
    store = document["paths"][PATH]["post"]
    (header,) = [parameter for parameter in store["parameters"] if parameter["in"] == "header"]
    assert (header["name"].lower(), header["required"]) == ("idempotency-key", False)
    assert set(store["responses"]["201"]["headers"]) == {"Location", "Idempotency-Key", "Idempotency-Replayed"}
    assert set(store["responses"]) >= {"201", "400", "401", "415", "422", "503", "504"}
    assert "404" in document["paths"][f"{PATH}/{{id}}"]["get"]["responses"]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def test_whoever_leaves_while_it_plans_keeps_nothing(sequencer: Sequencer, database: PostgresAddress) -> None:
    key = new_key()
    before = len(sequencer.server_log)
    headers = {"Idempotency-Key": key}
    state = {**STATE, "player_units": STATE["player_units"] * 100, "budget_ms": 7000, "strategy": "random"}
    with httpx2.Client(base_url=sequencer.url, timeout=0.3) as client, pytest.raises(httpx2.TimeoutException):
        client.post(PATH, json=state, headers=headers)
    eventually(lambda: any(line.get("status") == 499 for line in sequencer.server_log[before:]))
    assert rows(database, "key = %s", key) == []
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_without_a_database_plans_are_kept_in_memory(
    start_sequencer: StartSequencer, in_memory: dict[str, str]
) -> None:
    sequencer = start_sequencer(**in_memory, SEQUENCER_TIMEOUT_MS="20")
    for face in (Rest(sequencer), Graphql(sequencer)):
        key = new_key()
        plan = face.store(key=key)
        assert face.store(key=key) == plan == face.read(plan["id"])
        assert face.page(1)[0] == [plan]


@pytest.mark.slow
def test_while_the_database_is_away_each_answer_is_in_time(
    start_sequencer: StartSequencer, no_database: dict[str, str]
) -> None:
    sequencer = start_sequencer(**no_database, SEQUENCER_STORE_DEADLINE_MS="1000", SEQUENCER_TIMEOUT_MS="20")
    begun = time.monotonic()
    answer = sequencer.client.post(PATH, json=STATE)
    assert time.monotonic() - begun < 3
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["code"] == "STORAGE_UNAVAILABLE"
    assert re.search(r"idempotency key [0-9a-f-]{36}$", answer.json()["detail"])
    (error,) = sequencer.graphql(
        'mutation Store($state: GameStateInputType!) { storePlan(gameStateInput: $state, idempotencyKey: "k") { id } }',
        state={"playerUnits": STATE["player_units"], "enemyUnits": STATE["enemy_units"]},
    )["errors"]
    assert error["extensions"] == {"code": "STORAGE_UNAVAILABLE", "retryAfter": 1}
    assert sequencer.client.get(PATH).status_code == 503
    assert "Traceback" not in sequencer.service.log


@pytest.mark.slow
def test_who_is_not_told_whether_a_plan_is_kept_is_told_that_and_finds_out_by_its_key(
    start_service: StartService, in_memory: dict[str, str], unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    service = start_service(
        [Path(sys.executable).with_name("api-server")],
        **in_memory,
        API_SERVER_APP="sequencer_in_doubt:IN_DOUBT",
        PYTHONPATH=str(Path(sequencer_in_doubt.__file__).parent),
        UVICORN_PORT=str(unused_tcp_port),
        SEQUENCER_TIMEOUT_MS="20",
    )
    service.wait_until_it_answers(f"{url}/livez")
    told = "the plan may have been kept; ask again by the idempotency key {} to find out"
    with httpx2.Client(base_url=url, timeout=30) as client:
        refused = client.post(PATH, json=STATE, headers={"Idempotency-Key": "over-rest"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (refused.json()["code"], refused.json()["detail"]) == ("OUTCOME_UNKNOWN", told.format("over-rest"))
        again = client.post(PATH, json=STATE, headers={"Idempotency-Key": "over-rest"})
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        # Where the client made no key, it is told the one that was made for it.
        unnamed = client.post(PATH, json=STATE).json()["detail"]
        assert re.fullmatch(told.format("[0-9a-f-]{36}"), unnamed)

        units = {"playerUnits": STATE["player_units"], "enemyUnits": STATE["enemy_units"]}
        asked = {"query": STORE, "variables": {"state": units, "key": "over-graphql"}}
        answer = client.post("/graphql", json=asked)
        (error,) = answer.json()["errors"]
        assert (answer.status_code, answer.json()["data"]) == (200, {"storePlan": None})
        assert error["extensions"] == {"code": "OUTCOME_UNKNOWN", "retryAfter": 1}
        assert error["message"] == told.format("over-graphql")
        assert client.post("/graphql", json=asked).json()["data"]["storePlan"]["idempotencyKey"] == "over-graphql"
    assert "Traceback" not in service.log


def test_the_loop_that_measures_a_failover_keeps_each_plan_once(
    sequencer: Sequencer, database: PostgresAddress, tmp_path: Path
) -> None:
    """As the notes about failing Aurora over tell it, but for the number and the port."""
    notes = (ROOT / "testing_payloads" / "aws_failover_notes.md").read_text()
    (loop,) = re.findall(r"```sh\n(for number in .*?)```", notes, re.DOTALL)
    (query,) = re.findall(r"```sql\n(.*?);\n```", notes, re.DOTALL)
    assert "seq 1000" in loop
    assert "127.0.0.1:8080" in loop
    shutil.copy(ROOT / "testing_payloads" / "game_state.json", tmp_path)
    loop = loop.replace("seq 1000", "seq 2").replace("127.0.0.1:8080", f"127.0.0.1:{sequencer.client.base_url.port}")
    # Its first answer is a refusal, and comes late.
    curl = tmp_path / "curl"
    curl.write_text(
        '#!/bin/sh\n[ -e asked ] || { touch asked; sleep 1.2; printf "503 1.2"; exit; }\n'
        f'exec {shutil.which("curl")} "$@"\n'
    )
    curl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    begun = time.strftime("%H:%M:%S")
    subprocess.run(["sh", "-euc", loop], cwd=tmp_path, env=environment, check=True, timeout=30)
    lines = [line.split() for line in (tmp_path / "f24.log").read_text().splitlines()]
    assert [status for _, _, status, _ in lines] == ["503", "201", "201"]
    (_, refused, *_), (_, first, *_), (_, second, *_) = lines
    assert refused == first != second
    # The time at which it came, not at which it was asked for.
    assert lines[0][0] != begun
    with psycopg.connect(database.url) as connection:
        assert connection.execute(query.encode()).fetchone() == (2, 2)
