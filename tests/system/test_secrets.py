"""A canary: a marker in every setting that holds a secret, searched for in everything that leaves the process."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args
from urllib.parse import quote

import httpx2
import psycopg
import pytest
from api_server.local.postgres import PostgresAddress
from api_server.server import UvicornServerConfig
from api_server.settings import LogLevel, Settings, variables_of
from api_server.testing import fresh_database
from collector import collecting
from psycopg import sql
from sequencer_process import Sequencer, StartSequencer
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings

VARIABLES = {
    name: field
    for settings in (Settings, UvicornServerConfig, PiccoloDBConfig, SequencerSettings)
    for name, field in variables_of(settings).items()
}
SECRET = {name for name, field in VARIABLES.items() if "Secret" in str(field.annotation)}
# The lowest level writes whatever a higher one does; that it does so at each of them is left to `make test-all`.
LEVELS = [level if level == "DEBUG" else pytest.param(level, marks=pytest.mark.slow) for level in get_args(LogLevel)]


def test_what_sounds_like_a_secret_is_typed_as_one() -> None:
    """What a canary is put into is found by its type."""
    sounding = {name for name in VARIABLES if name.endswith(("PASSWORD", "SECRET", "TOKEN", "KEY", "URL"))}
    # Where a provider's public keys are.
    assert sounding - {"API_SERVER_OIDC_JWKS_URL"} == SECRET
    assert {"API_SERVER_DATABASE_URL", "PICCOLO_DB_PASSWORD"} == SECRET


@contextmanager
def role(server: PostgresAddress, password: str) -> Iterator[str]:
    """Make a role that logs in with this password."""
    name = sql.Identifier("canary")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(name, sql.Literal(password)))
        try:
            yield "canary"
        finally:
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER; DROP ROLE {}").format(name, name))


def everything_asked(sequencer: Sequencer, game_state: Any, marker: str) -> str:
    """Ask for whatever there is, and return all that was answered."""
    client = sequencer.client
    client.auth = ("ada", marker)
    answers = [
        *(client.get(path) for path in ("/livez", "/readyz", "/version", "/docs", "/openapi.json", "/nowhere")),
        client.post("/readyz", params={"force_rerun": True}),
        sequencer.plan(game_state),
        sequencer.plan({**game_state, "player_units": []}),
        client.post("/api/v1/plans", json=game_state),
        client.post("/graphql", json={"query": "{version{name} requestLog{edges{node{query}}}}"}),
        client.post("/graphql", json={"query": "{nothing}"}),
        client.post("/graphql", content=b"\xff", headers={"Content-Type": "application/json"}),
        *asked_with_a_secret(sequencer, game_state, marker),
        client.get("/metrics"),
    ]
    return "\n".join(f"{answer.status_code} {dict(answer.headers)} {answer.text}" for answer in answers)


def asked_with_a_secret(sequencer: Sequencer, game_state: Any, marker: str) -> list[httpx2.Response]:
    """Put what is nobody's business wherever a client may put something, and return what was answered."""
    client = sequencer.client
    return [
        client.get("/version", params={"access_token": marker}),
        client.get("/nowhere", params={marker: "1"}),
        client.get("/version", headers={"Cookie": marker, "User-Agent": marker, "tracestate": f"v={marker}"}),
        client.get("/version", headers={"Host": f"{marker}.example", "baggage": f"token={marker}"}),
        sequencer.plan({**game_state, "player_units": marker}),
        sequencer.plan({**game_state, "token": marker}),
        client.post("/api/v1/plans", json={**game_state, "seed": marker}),
        client.post("/graphql", json={"query": "{version{name}}", "variables": {"a": marker}}),
        client.post("/graphql", json={"query": "query ($a: Int) {version{name}}", "variables": {"a": marker}}),
        client.get("/graphql", params={"query": f'{{plan(id: "{marker}"){{id}}}}'}),
    ]


def assert_hidden(marker: str, *texts: str) -> None:
    spellings = {marker, quote(marker, safe=""), base64.b64encode(marker.encode()).decode().rstrip("=")}
    for text in texts:
        # Not by `in` of an assertion, which would print it.
        shown = [line.replace(marker, "***") for line in text.splitlines() if any(form in line for form in spellings)]
        assert shown == []


@pytest.mark.parametrize("level", LEVELS)
def test_no_secret_leaves_a_service_that_works(
    start_sequencer: StartSequencer, postgres: PostgresAddress, marker_secret: str, game_state: Any, level: str
) -> None:
    with (
        collecting() as collector,
        fresh_database(postgres) as database,
        role(database, marker_secret) as user,
    ):
        where = f"{database.host}:{database.port}/{database.database}"
        sequencer = start_sequencer(
            API_SERVER_DATABASE_URL=f"postgresql://{user}:{quote(marker_secret, safe='')}@{where}",
            API_SERVER_LOG_LEVEL=level,
            API_SERVER_SQLALCHEMY_LOG_LEVEL=level,
            **collector.environment,
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization={marker_secret}",
            PICCOLO_DB_HOST=database.host,
            PICCOLO_DB_PORT=str(database.port),
            PICCOLO_DB_USER=user,
            PICCOLO_DB_PASSWORD=marker_secret,
            PICCOLO_DB_DATABASE=database.database,
            PICCOLO_DB_RUN_MIGRATIONS="true",
            SEQUENCER_LANE_WORKERS="1",
            SEQUENCER_TIMEOUT_MS="20",
        )
        assert sequencer.client.get("/readyz").json()["state"] == "operational"
        told = everything_asked(sequencer, game_state, marker_secret)
        sequencer.service.stop()
    assert {"plan.search", "database.acquire", "graphql query"} <= {span.name for span in collector.spans}
    assert set(collector.authorizations) == {marker_secret}
    assert_hidden(marker_secret, told, sequencer.service.log, *(body.decode("latin-1") for body in collector.bodies))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.slow
def test_nor_one_whose_secrets_are_refused(
    start_sequencer: StartSequencer, postgres: PostgresAddress, marker_secret: str, game_state: Any, level: str
) -> None:
    where = f"{postgres.host}:{postgres.port}/{postgres.database}"
    sequencer = start_sequencer(
        API_SERVER_DATABASE_URL=f"postgresql://{postgres.user}:{quote(marker_secret, safe='')}@{where}",
        API_SERVER_LOG_LEVEL=level,
        API_SERVER_SQLALCHEMY_LOG_LEVEL=level,
        PICCOLO_DB_HOST=postgres.host,
        PICCOLO_DB_PORT=str(postgres.port),
        PICCOLO_DB_PASSWORD=marker_secret,
        SEQUENCER_LANE_WORKERS="1",
        SEQUENCER_TIMEOUT_MS="20",
    )
    assert sequencer.client.get("/readyz").json()["state"] == "degraded"
    told = everything_asked(sequencer, game_state, marker_secret)
    sequencer.service.stop()
    assert_hidden(marker_secret, told, sequencer.service.log)


@pytest.mark.parametrize(
    "url", ["mysql://u:{}@h/d", "{}", pytest.param("postgresql://u:%zz{}@127.0.0.1:1/d", marks=pytest.mark.slow)]
)
def test_nor_one_whose_settings_are_wrong(
    start_sequencer: StartSequencer, no_database: dict[str, str], marker_secret: str, game_state: Any, url: str
) -> None:
    sequencer = start_sequencer(
        **no_database, wait=False, API_SERVER_DATABASE_URL=url.format(marker_secret), API_SERVER_LOG_LEVEL="DEBUG"
    )
    told = ""
    if url.startswith("postgresql"):
        sequencer.service.wait_until_it_answers(f"{sequencer.url}/livez")
        told = everything_asked(sequencer, game_state, marker_secret)
        sequencer.service.stop()
    else:
        assert sequencer.service.wait() == 2
    assert "API_SERVER_DATABASE_URL" in sequencer.service.log or told
    assert_hidden(marker_secret, told, sequencer.service.log)
