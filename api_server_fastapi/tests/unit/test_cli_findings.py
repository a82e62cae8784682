"""What is said of settings that are each well-formed."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from api_server.application import Application
from api_server.cli.findings import foundation_findings
from api_server.cli.identity_findings import provider_findings
from api_server.findings import Finding
from api_server.server import UvicornServerConfig
from api_server.settings import Settings
from api_server.testing import clean_environment
from fastapi import APIRouter

APPLICATION = Application(name="app", version="1", routers=lambda: (APIRouter(),))
PRODUCTION = {"ENV_TYPE": "production"}
OIDC = {"API_SERVER_OIDC_ISSUER": "http://127.0.0.1:1", "API_SERVER_OIDC_AUDIENCE": "planner"}
BASIC = {"API_SERVER_IDENTITY": "basic"}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", clean_environment())


def findings(application: Application = APPLICATION, /, **environment: str) -> list[Finding]:
    os.environ.update(environment)
    return list(foundation_findings(application, Settings(), UvicornServerConfig()))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"UVICORN_HOST": "localhost", "API_SERVER_LOG_LEVEL": "DEBUG", "UVICORN_RELOAD": "true"},
        {"API_SERVER_CORS_ORIGINS": "*", "API_SERVER_SQLALCHEMY_LOG_LEVEL": "INFO"},
        {"API_SERVER_PROFILES": "rest"},
        {"API_SERVER_PROFILES": "rest,graphql"},
        {"API_SERVER_IDENTITY": "oidc", **OIDC, "UVICORN_HOST": "0.0.0.0"},
    ],
)
def test_what_development_may_do_is_not_found_fault_with(environment: Mapping[str, str]) -> None:
    assert findings(**environment) == []


@pytest.mark.parametrize(
    ("environment", "variable", "says"),
    [
        ({"UVICORN_HOST": "0.0.0.0"}, "UVICORN_HOST", "Development identity on 0.0.0.0"),
        ({"UVICORN_HOST": "::"}, "UVICORN_HOST", "Development identity on ::,"),
        (PRODUCTION, "ENV_TYPE", "no identity provider: in production, all but the probes answers 401"),
        ({"API_SERVER_IDENTITY": "none"}, "API_SERVER_IDENTITY", "no identity provider"),
        ({**PRODUCTION, **OIDC, "API_SERVER_IDENTITY": "oidc"}, "API_SERVER_OIDC_ISSUER", "makes tokens as they like"),
        ({**PRODUCTION, "API_SERVER_LOG_LEVEL": "DEBUG"}, "API_SERVER_LOG_LEVEL", "DEBUG in production"),
        ({**PRODUCTION, "UVICORN_FORWARDED_ALLOW_IPS": "*"}, "UVICORN_FORWARDED_ALLOW_IPS", "which address it has"),
        ({**PRODUCTION, "API_SERVER_TELEMETRY": "console"}, "API_SERVER_TELEMETRY", "Spans on standard output"),
        ({**PRODUCTION, "API_SERVER_GRAPHQL_IDE": "true"}, "API_SERVER_GRAPHQL_IDE", "may learn the schema"),
        (
            {**PRODUCTION, "API_SERVER_SQLALCHEMY_LOG_LEVEL": "INFO"},
            "API_SERVER_SQLALCHEMY_LOG_LEVEL",
            "every statement is written",
        ),
        ({**PRODUCTION, "UVICORN_RELOAD": "1"}, "UVICORN_RELOAD", "Reload in production"),
        ({**PRODUCTION, "API_SERVER_CORS_ORIGINS": "*"}, "API_SERVER_CORS_ORIGINS", "every page of the web"),
        ({"API_SERVER_PROFILES": "graphql"}, "API_SERVER_PROFILES", "app has nothing under graphql"),
        ({"API_SERVER_LOG_LEVEL": "INFO", "Api_Server_Log_Level": "ERROR"}, "API_SERVER_LOG_LEVEL", "several values"),
    ],
)
def test_what_works_otherwise_than_somebody_may_think_is_a_warning(
    environment: Mapping[str, str], variable: str, says: str
) -> None:
    (finding,) = [finding for finding in findings(**environment) if variable in finding.variables]
    assert finding.severity == "warning"
    assert says in finding.sentence


def test_a_credentials_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (finding,) = findings(**BASIC, API_SERVER_CREDENTIALS_FILE=str(tmp_path / "none"))
    assert finding.severity == "error"
    assert "cannot be read: No such file" in finding.sentence


def test_a_credentials_file_that_serves_nobody_or_everybody_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.touch(mode=0o644)
    sentences = [finding.sentence for finding in findings(**BASIC, API_SERVER_CREDENTIALS_FILE=str(file))]
    assert sentences == [
        f"{file} names no user: all but the probes is 401.",
        f"Everybody on this machine may read or write {file}: chmod o= would end that.",
    ]


def test_hashes_that_cost_differently_are_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.touch(mode=0o600)
    costs = ("m=8,t=1,p=1", "m=8,t=1,p=1", "m=16,t=1,p=1")
    rest = "c29tZXNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0:"
    lines = [f"user{number}:$argon2id$v=19${cost}${rest}\n" for number, cost in enumerate(costs)]
    file.write_text("".join(lines))
    (finding,) = findings(**BASIC, API_SERVER_CREDENTIALS_FILE=str(file))
    assert finding.severity == "warning"
    assert "cost differently" in finding.sentence
    file.write_text("".join(lines[:2]))
    assert findings(**BASIC, API_SERVER_CREDENTIALS_FILE=str(file)) == []


async def test_a_provider_that_does_not_answer_is_an_error(unused_tcp_port: int) -> None:
    os.environ.update(OIDC, API_SERVER_IDENTITY="oidc", API_SERVER_OIDC_ISSUER=f"http://127.0.0.1:{unused_tcp_port}")
    (finding,) = await provider_findings(Settings())
    assert (finding.severity, finding.variables) == ("error", ("API_SERVER_OIDC_ISSUER",))
    assert "gives no keys" in finding.sentence
    for variable in (*OIDC, "API_SERVER_IDENTITY"):
        del os.environ[variable]
    assert await provider_findings(Settings()) == []


def test_an_application_without_routes_has_nothing_under_rest() -> None:
    (finding,) = findings(Application(name="app", version="1"), API_SERVER_PROFILES="rest")
    assert finding.sentence.startswith("app has nothing under rest")


def test_a_variable_of_two_spellings_and_one_value_is_fine() -> None:
    assert findings(UVICORN_PORT="9001", uvicorn_port="9001") == []
