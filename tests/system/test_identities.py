"""A service in production, and the whole of it for who is believed: by a password, and by a provider's token."""

import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_server.identity.credentials_change import put_user
from api_server.identity.credentials_file import User
from api_server.local.postgres import PostgresAddress
from api_server.testing import StartService
from argon2 import PasswordHasher
from live_clients import PYTHON, RefusedError, client
from openid_provider import CLIENT, OpenIdProvider, running_openid_provider
from piccolo_database import piccolo_environment
from sequencer_process import Sequencer, StartSequencer

pytestmark = pytest.mark.slow

AUDIENCE = "https://planner.example"
PASSWORD = "correct horse battery"
GOALS = "subscription($state: GameStateInputType!) { generateSteps(gameStateInput: $state) { throttle } }"
UNIT = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 1, "friction": 0.5}
STATE = {
    "playerUnits": [UNIT],
    "enemyUnits": [{**UNIT, "coordinate": {"x": 4, "y": 0}}],
}


@pytest.fixture
def environment(database: PostgresAddress, start_service: StartService) -> dict[str, str]:
    """Variables of a service in production, whose database is migrated."""
    variables = {
        **piccolo_environment(database),
        "ENV_TYPE": "production",
        "SEQUENCER_TIMEOUT_MS": "50",
        "SEQUENCER_STEP_INTERVAL_MS": "1",
    }
    cli = Path(sys.executable).with_name("api-server-cli")
    upgrade = start_service([cli, "--app", "throttling_sequencer.app:SEQUENCER", "db", "upgrade", "--yes"], **variables)
    assert upgrade.wait() == 0, upgrade.log
    return variables


@pytest.fixture(scope="module")
def provider(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[OpenIdProvider]:
    with running_openid_provider(tmp_path_factory.mktemp("openid"), unused_tcp_port_factory(), "s3cret") as running:
        yield running


def test_who_is_in_the_credentials_file_has_the_whole_product(
    environment: dict[str, str], start_sequencer: StartSequencer, tmp_path: Path, game_state: Any
) -> None:
    file = tmp_path / "credentials"
    put_user(file, User("ada", PasswordHasher().hash(PASSWORD), frozenset({"*"})))
    sequencer = start_sequencer(
        **environment, API_SERVER_IDENTITY="basic", API_SERVER_CREDENTIALS_FILE=str(file), API_SERVER_LOG_LEVEL="DEBUG"
    )
    authorization = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    refused = sequencer.plan(game_state)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (
        401,
        'Basic realm="api_server", charset="UTF-8"',
    )
    assert httpx2.get(f"{sequencer.url}/version", auth=("ada", "guess guess")).status_code == 401
    the_whole_product(sequencer, authorization, "ada", game_state)
    log = sequencer.service.log
    assert PASSWORD not in log
    assert authorization not in log


def test_who_has_a_token_of_the_provider_has_it_too(
    environment: dict[str, str], start_sequencer: StartSequencer, provider: OpenIdProvider, game_state: Any
) -> None:
    sequencer = start_sequencer(
        **environment,
        API_SERVER_IDENTITY="oidc",
        API_SERVER_OIDC_ISSUER=provider.issuer,
        API_SERVER_OIDC_AUDIENCE=AUDIENCE,
        API_SERVER_LOG_LEVEL="DEBUG",
    )
    refused = sequencer.plan(game_state)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api_server"')
    token = provider.access_token(AUDIENCE)
    the_whole_product(sequencer, f"Bearer {token}", CLIENT, game_state)
    # A token of the same provider, for another service.
    other = provider.access_token("https://billing.example")
    answer = httpx2.get(f"{sequencer.url}/version", headers={"Authorization": f"Bearer {other}"})
    assert (answer.status_code, "invalid_token" in answer.headers["WWW-Authenticate"]) == (401, True)
    log = sequencer.service.log
    assert not [part for part in token.split(".") if part in log]


def the_whole_product(sequencer: Sequencer, authorization: str, user: str, game_state: Any) -> None:
    """Try every face, with credentials and without."""
    url = f"{sequencer.url}/graphql"
    for protocol in PYTHON:
        with pytest.raises(RefusedError):
            list(client(protocol, Path())(url, GOALS, {"state": STATE}))
    sequencer.client.headers["Authorization"] = authorization
    assert sequencer.client.get("/version").status_code == 200
    assert sequencer.plan(game_state).status_code == 200
    kept = sequencer.client.post("/api/v1/plans", json=game_state)
    assert kept.status_code == 201, kept.text
    assert sequencer.client.get(kept.headers["Location"]).status_code == 200
    preset = {"kind": "scenario", "name": "duel", "document": game_state}
    made = sequencer.client.post("/api/v1/presets", json=preset)
    assert (made.status_code, made.json()["owner_id"]) == (201, user)
    assert sequencer.graphql('{ presets(kind: "scenario") { nodes { ownerId } } }')["data"] == {
        "presets": {"nodes": [{"ownerId": user}]}
    }
    for protocol in PYTHON:
        arrivals = list(client(protocol, Path())(url, GOALS, {"state": STATE}, authorization))
        assert arrivals
        assert all("errors" not in arrival.result for arrival in arrivals)
