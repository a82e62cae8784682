"""What a setting is, where it comes from, and what nobody is shown of it."""

import io
import os
from enum import Enum
from typing import Annotated

import pytest
from api_server import environment
from api_server.cli.effective_settings import (
    EffectiveSetting,
    as_env_file,
    as_json_object,
    effective_settings,
    settings_classes,
)
from api_server.cli.output import without_user_info
from api_server.environment import comma_separated, override_environment
from api_server.foundation import FOUNDATION
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, settings_config
from api_server.testing import clean_environment
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode


class Colour(Enum):
    RED = "red"


class Peculiar(BaseSettings):
    """Defaults of every kind."""

    model_config = settings_config("PECULIAR_")

    needed: int
    colour: Colour = Colour.RED
    names: Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated)] = ("a", "b")
    weights: dict[str, float] = Field(default_factory=lambda: {"x": 0.5})
    sizes: list[int] = [1, 2]
    switch: bool = True
    nothing: str | None = None
    password: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("a-default-token")
    proxy: str = "http://proxy"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_SOURCES", {})
    monkeypatch.setattr(os, "environ", clean_environment())


def settings_of(*classes: type[BaseSettings]) -> dict[str, EffectiveSetting]:
    return {setting.variable: setting for setting in effective_settings(classes)}


def test_a_default_is_spelled_as_a_variable_would_be() -> None:
    shown = {variable: setting.shown for variable, setting in settings_of(Peculiar).items()}
    assert shown == {
        "PECULIAR_NEEDED": "(unset)",
        "PECULIAR_COLOUR": "red",
        "PECULIAR_NAMES": "a,b",
        "PECULIAR_WEIGHTS": '{"x":0.5}',
        "PECULIAR_SIZES": "[1,2]",
        "PECULIAR_SWITCH": "true",
        "PECULIAR_NOTHING": "(unset)",
        "PECULIAR_PASSWORD": "(unset)",
        "PECULIAR_TOKEN": "(set, hidden)",
        "PECULIAR_PROXY": "http://proxy",
    }


def test_defaults_that_are_spelled_out_mean_the_same() -> None:
    os.environ["PECULIAR_NEEDED"] = "1"
    before = Peculiar()
    os.environ.update(read_back(as_env_file(effective_settings([Peculiar]))))
    assert os.environ["PECULIAR_NAMES"] == "a,b"
    assert Peculiar() == before


def read_back(text: str) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items()}


def test_each_source_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("uvicorn_port", "9001")
    override_environment({"UVICORN_HOST": "127.0.0.9"}, source="--host")
    settings = settings_of(UvicornServerConfig)
    sources = [settings[variable].source for variable in ("UVICORN_PORT", "UVICORN_HOST", "UVICORN_WORKERS")]
    assert sources == ["environment", "--host", "default"]


def test_a_value_that_may_not_be_used_is_shown_all_the_same() -> None:
    os.environ["UVICORN_PORT"] = "many"
    assert settings_of(UvicornServerConfig)["UVICORN_PORT"].shown == "many"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_SERVER_DATABASE_URL", "postgresql://me:hush@db/x"),
        ("API_SERVER_DATABASE_URL", "hush"),
        ("PECULIAR_PASSWORD", "hush"),
        ("PECULIAR_PROXY", "http://me:hush@proxy"),
        ("PECULIAR_PROXY", "http://me:my hush@proxy"),
        ("PECULIAR_PROXY", "postgresql://h/db?user=u&password=hush"),
    ],
)
def test_a_secret_is_set_and_hidden(variable: str, value: str) -> None:
    os.environ[variable] = value
    setting = settings_of(Settings, Peculiar)[variable]
    assert (setting.shown, setting.value) == ("(set, hidden)", None)
    assert setting.line == f"# {variable} is set and hidden"
    assert "hush" not in as_json_object([setting]) + as_env_file([setting]) + repr(setting)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("at postgresql://me:hush@db/x, and", "at postgresql://…@db/x, and"),
        ("https://me:hu@sh@db", "https://…@db"),
        ("https://me:hu/sh@db?a=b", "https://…@db?a=b"),
        ("http://hush@db", "http://…@db"),
        ("http://@hush@db", "http://…@db"),
        ("postgresql://h/db?user=u&sslpassword=hush&x=1", "postgresql://h/db?user=u&sslpassword=…&x=1"),
        ("mail me@example.org, or http://host/a", "mail me@example.org, or http://host/a"),
    ],
)
def test_a_url_says_nothing_of_who_logs_in(text: str, says: str) -> None:
    assert without_user_info(text) == says


def test_every_class_of_a_service_is_there_once() -> None:
    assert list(settings_classes(FOUNDATION)) == [UvicornServerConfig, Settings]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_value_is_read_back_from_the_line_that_sets_it(value: str) -> None:
    line = EffectiveSetting("NAME", value, "default").line
    assert "\n" not in line
    assert read_back(f"{line}\nOTHER=1\n") == {"NAME": value, "OTHER": "1"}


def test_sources_stand_above_what_comes_from_them() -> None:
    settings = [
        EffectiveSetting("A", "1", "default"),
        EffectiveSetting("B", "two words", "default"),
        EffectiveSetting("C", None, "--c", is_hidden=True),
        EffectiveSetting("D", None, "default"),
    ]
    assert as_env_file(settings).splitlines() == [
        "# default",
        "A=1",
        'B="two words"',
        "# --c",
        "# C is set and hidden",
        "# default",
        "# D is unset",
    ]
