"""How settings are read: one owner per variable, sentences for what cannot be used."""

import os
from pathlib import Path

import pytest
from api_server.exceptions import SettingsError, StartError
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, load_env_file, override_environment, read_settings
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests change os.environ as the code does, and put it back."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_names_are_case_insensitive_and_empty_values_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("uvicorn_port", "9001")
    monkeypatch.setenv("UVICORN_HOST", "")
    config = UvicornServerConfig()
    assert (config.port, config.host) == (9001, "127.0.0.1")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        UvicornServerConfig().port = 1


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("UVICORN_PORT", "abc", "UVICORN_PORT is 'abc', and should be a valid integer"),
        ("UVICORN_PORT", "65536", "UVICORN_PORT is '65536', and should be less than or equal to 65535"),
        ("uvicorn_workers", "0", "UVICORN_WORKERS is '0', and should be greater than or equal to 1"),
        ("UVICORN_RELOAD", "perhaps", "UVICORN_RELOAD is 'perhaps', and should be a valid boolean"),
        ("ENV_TYPE", "prod", "ENV_TYPE is 'prod', and should be 'development' or 'production'"),
        ("API_SERVER_LOG_LEVEL", "loud", "API_SERVER_LOG_LEVEL is 'loud', and should be 'DEBUG', 'INFO'"),
        ("API_SERVER_APP", "nonsense", "API_SERVER_APP is 'nonsense'"),
        ("UVICORN_PROT", "1", "UVICORN_PROT is not a variable of this service; UVICORN_* may be UVICORN_HOST, "),
        ("api_server_debug", "1", "api_server_debug is not a variable of this service"),
    ],
)
def test_each_problem_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings, UvicornServerConfig)
    (problem,) = caught.value.problems
    assert problem.startswith(says)
    assert problem.endswith(".")


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("UVICORN_PORT", "UVICORN_WORKERS", "API_SERVER_LOG_LEVEL", "UVICORN_UNKNOWN"):
        monkeypatch.setenv(variable, "x")
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings, UvicornServerConfig)
    assert len(caught.value.problems) == 4


def test_settings_that_exclude_each_other_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_RELOAD", "true")
    monkeypatch.setenv("UVICORN_WORKERS", "2")
    with pytest.raises(SettingsError, match="UVICORN_RELOAD goes with one worker"):
        read_settings(UvicornServerConfig)


def test_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_DATABASE_URL", "postgresql://me:hush-hush@db/x")
    assert "hush-hush" not in repr(Settings())


def test_an_env_file_gives_way_to_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("uvicorn_port", "7001")
    file = tmp_path / "a.env"
    file.write_text("# ports\nUVICORN_PORT=7002\nUVICORN_HOST=127.0.0.9\nAPI_SERVER_LOG_LEVEL=\n")
    load_env_file(file)
    config = UvicornServerConfig()
    assert (config.port, config.host) == (7001, "127.0.0.9")
    assert Settings().log_level == "INFO"


def test_an_env_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="does not exist"):
        load_env_file(tmp_path / "none.env")


def test_a_flag_replaces_a_variable_whatever_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("uvicorn_port", "7001")
    override_environment({"UVICORN_PORT": "7003"})
    assert UvicornServerConfig().port == 7003
    assert "uvicorn_port" not in os.environ
