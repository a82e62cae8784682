"""How settings are read: one owner per variable, sentences for what cannot be used."""

import os
from pathlib import Path

import pytest
from api_server.environment import load_env_file, override_environment, source_of, value_of
from api_server.exceptions import SettingsError, StartError
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, read_settings
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
        (
            "UVICORN_PORT",
            "abc",
            ("UVICORN_PORT is 'abc', and should be a valid integer: the port to listen on; 0 takes a free one."),
        ),
        (
            "UVICORN_PORT",
            "65536",
            (
                "UVICORN_PORT is '65536', and should be less than or equal to 65535: the port to listen on; "
                "0 takes a free one."
            ),
        ),
        (
            "uvicorn_workers",
            "0",
            "UVICORN_WORKERS is '0', and should be greater than or equal to 1: processes that answer.",
        ),
        (
            "UVICORN_FORWARDED_ALLOW_IPS",
            "10.0.0.1, haproxy",
            (
                "UVICORN_FORWARDED_ALLOW_IPS should hold addresses and networks, separated by commas, or be *; "
                "'haproxy' is none."
            ),
        ),
        (
            "UVICORN_FORWARDED_ALLOW_IPS",
            "10.0.0.0/8,*",
            "UVICORN_FORWARDED_ALLOW_IPS should be * alone, or addresses and networks.",
        ),
        (
            "API_SERVER_OIDC_ISSUER",
            "https://id.example",
            "API_SERVER_OIDC_* is set, so API_SERVER_IDENTITY should be oidc.",
        ),
        (
            "API_SERVER_CREDENTIALS_FILE",
            "/users",
            "API_SERVER_CREDENTIALS_FILE is set, so API_SERVER_IDENTITY should be basic.",
        ),
        (
            "API_SERVER_DRAIN_DELAY_S",
            "8",
            (
                "API_SERVER_LEAVE_WITHIN_S should be at least twice API_SERVER_DRAIN_DELAY_S, which is 8: requests in "
                "flight need time to end."
            ),
        ),
        (
            "ENV_TYPE",
            "prod",
            (
                "ENV_TYPE is 'prod', and should be 'development' or 'production': `production` refuses the development "
                "identity and the embedded database."
            ),
        ),
        (
            "API_SERVER_APP",
            "nonsense",
            (
                "API_SERVER_APP is 'nonsense', and may be: the `module:attribute` of the Application that "
                "`api-server` serves; unset: the foundation itself."
            ),
        ),
        (
            "API_SERVER_DATABASE_URL",
            "mysql://u:hush@h/d",
            "API_SERVER_DATABASE_URL should begin with postgresql:// or postgresql+psycopg://.",
        ),
        (
            "UVICORN_PROT",
            "1",
            "UVICORN_PROT is not a variable of this service; perhaps UVICORN_PORT is meant.",
        ),
        (
            "api_server_debug",
            "1",
            (
                "api_server_debug is not a variable of this service; `api-server-cli config` lists those that begin "
                "with API_SERVER_."
            ),
        ),
        (
            "API_SERVER_READINESS_PERIOD_S",
            "60",
            (
                "API_SERVER_READINESS_PERIOD_S is '60', and should be less than or equal to 10: seconds from one "
                "readiness report to the next; 1 while something fails."
            ),
        ),
        (
            "API_SERVER_CORS_ORIGINS",
            "https://a.example/path",
            (
                "API_SERVER_CORS_ORIGINS is 'https://a.example/path', and may be: origins whose pages may ask, "
                "separated by commas, or `*`; unset: none."
            ),
        ),
    ],
)
def test_each_problem_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings, UvicornServerConfig)
    assert caught.value.problems == (says,)


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b"A=1\nwhat is this\n", "has no NAME=value in line 2"),
        (b"ALONE\n", "in line 1"),
    ],
)
def test_an_env_file_that_cannot_be_understood_is_an_error(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.env").write_bytes(content)
    with pytest.raises(StartError, match=says):
        load_env_file(tmp_path / "a.env")


def test_an_env_file_is_taken_literally(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("API_SERVER_DATABASE_URL=postgresql://u:p${HOME}@h/d\n")
    load_env_file(tmp_path / "a.env")
    url = Settings().database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p${HOME}@h/d"


def test_a_flag_replaces_a_variable_whatever_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("uvicorn_port", "7001")
    override_environment({"UVICORN_PORT": "7003"})
    assert UvicornServerConfig().port == 7003
    assert "uvicorn_port" not in os.environ


@pytest.mark.parametrize("url", ["https://id.example:65536", "http://127.0.0.1:0/realm", "https://id.example:x"])
@pytest.mark.parametrize("variable", ["API_SERVER_OIDC_ISSUER", "API_SERVER_OIDC_JWKS_URL"])
def test_a_provider_listens_on_a_port_that_there_is(url: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_IDENTITY", "oidc")
    monkeypatch.setenv("API_SERVER_OIDC_AUDIENCE", "planner")
    monkeypatch.setenv("API_SERVER_OIDC_ISSUER", "https://id.example")
    monkeypatch.setenv("API_SERVER_IDENTITY", "oidc")
    monkeypatch.setenv("API_SERVER_OIDC_ISSUER", "https://id.example")
    monkeypatch.setenv("API_SERVER_OIDC_AUDIENCE", "planner")
    monkeypatch.setenv(variable, url)
    with pytest.raises(SettingsError, match=f"{variable} is '{url}', and should be a URL whose port is 1 to 65535"):
        read_settings(Settings)
    monkeypatch.setenv(variable, "https://id.example:65535/realm")
    read_settings(Settings)


def test_credentials_of_every_page_of_the_web_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_SERVER_CORS_ORIGINS", "https://a.example, *")
    read_settings(Settings)
    monkeypatch.setenv("API_SERVER_CORS_CREDENTIALS", "true")
    with pytest.raises(SettingsError, match="API_SERVER_CORS_CREDENTIALS should not be true where"):
        read_settings(Settings)
    monkeypatch.setenv("API_SERVER_CORS_ORIGINS", "https://a.example,http://localhost:5173")
    read_settings(Settings)
    assert Settings().cors_origins == ("https://a.example", "http://localhost:5173")


@pytest.mark.parametrize("line", ["A='b\0c'", "'A=B'=c"])
def test_an_env_file_that_no_environment_can_hold_is_told(tmp_path: Path, line: str) -> None:
    file = tmp_path / "odd.env"
    file.write_text(f"{line}\n")
    with pytest.raises(StartError, match=r"odd\.env has a name or a value that no variable can have"):
        load_env_file(file)


def test_of_two_spellings_in_a_file_the_last_wins(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("UVICORN_PORT=1\nuvicorn_port=2\n")
    load_env_file(tmp_path / "my.env")
    assert UvicornServerConfig().port == 2


class TestSources:
    """Where the value of a variable comes from."""

    def test_an_unset_variable_has_none(self) -> None:
        assert source_of("API_SERVER_APP") is None

    def test_the_environment_a_file_and_a_flag_are_told_apart(self, tmp_path: Path) -> None:
        file = tmp_path / "my.env"
        file.write_text("UVICORN_PORT=1\nuvicorn_workers=2\n")
        os.environ |= {"uvicorn_port": "3"}
        load_env_file(file)
        override_environment({"UVICORN_HOST": "::1"}, source="--host")
        assert (value_of("UVICORN_PORT"), source_of("UVICORN_PORT")) == ("3", "environment")
        assert (value_of("UVICORN_WORKERS"), source_of("UVICORN_WORKERS")) == ("2", str(file))
        assert source_of("UVICORN_HOST") == "--host"
