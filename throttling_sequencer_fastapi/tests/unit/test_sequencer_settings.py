"""What the sequencer can be told by the environment, and how it refuses what it cannot use."""

import pytest
from api_server.exceptions import SettingsError
from api_server.settings import read_settings
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import build_container
from throttling_sequencer.di.planning import register_planning
from throttling_sequencer.domain.genetic_path import GeneticConfiguration


def test_the_defaults_are_those_of_the_genetic_configuration() -> None:
    with build_container(register_planning) as container:
        assert container.get(GeneticConfiguration) == GeneticConfiguration()


def test_variables_reach_the_genetic_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCER_TIMEOUT_MS", "250")
    monkeypatch.setenv("sequencer_throttle_range", "-5, 70")
    with build_container(register_planning) as container:
        configuration = container.get(GeneticConfiguration)
    assert configuration.timeout_ms == 250
    assert configuration.throttle_range == (-5, 70)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SEQUENCER_TIMEOUT_MS", "soon", "SEQUENCER_TIMEOUT_MS is 'soon', and should be a valid integer"),
        ("SEQUENCER_TIMEOUT_MS", "0", "SEQUENCER_TIMEOUT_MS should be a number from 1 to 600000."),
        ("SEQUENCER_PATH_FINDER", "magic", "should be 'genetic', 'optimal' or 'random'"),
        (
            "SEQUENCER_THROTTLE_RANGE",
            "1",
            "SEQUENCER_THROTTLE_RANGE is '1', and may be: lowest and highest throttle of a step, two ",
        ),
        (
            "SEQUENCER_THROTTLE_RANGE",
            "5,1",
            "SEQUENCER_THROTTLE_RANGE should be two integers, the lower first, within ±1000000.",
        ),
        (
            "SEQUENCER_POPULATION_SIZE",
            "29",
            "SEQUENCER_POPULATION_SIZE should be at least SEQUENCER_BEST_PARENTS + SEQUENCER_W",
        ),
        ("SEQUENCER_TIMEOUT", "1000", "SEQUENCER_TIMEOUT is not a variable of this service; perhaps SEQUENCER_"),
        (
            "PICCOLO_DB_PORT",
            "70000",
            "PICCOLO_DB_PORT is '70000', and may be: port (1 to 65535), or one for each host separated by commas.",
        ),
        ("PICCOLO_DB_PORT", "a,b", "PICCOLO_DB_PORT is 'a,b', and may be: port (1 to 65535), or one for each host"),
        ("PICCOLO_DB_HOST", ",", "PICCOLO_DB_HOST is ',', and may be: host, or several separated by commas"),
        ("PICCOLO_DB_PORT", "1,2", "PICCOLO_DB_PORT should hold one port, or one for each host"),
        ("PICCOLO_DB_HOSTS", "a", "PICCOLO_DB_HOSTS is not a variable"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        read_settings(SequencerSettings, PiccoloDBConfig)
    assert says in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("db", "5433", "postgresql://us%40er:p%3A%2Fw@db:5433/name"),
        ("a,b", "1,2", "postgresql://us%40er:p%3A%2Fw@a:1,b:2/name?target_session_attrs=read-write"),
        ("a, b", "7", "postgresql://us%40er:p%3A%2Fw@a:7,b:7/name?target_session_attrs=read-write"),
    ],
)
def test_the_database_has_one_url(monkeypatch: pytest.MonkeyPatch, host: str, port: str, url: str) -> None:
    values = {"HOST": host, "PORT": port, "USER": "us@er", "PASSWORD": "p:/w", "DATABASE": "name"}
    for name, value in values.items():
        monkeypatch.setenv(f"PICCOLO_DB_{name}", value)
    assert PiccoloDBConfig().url == url


def test_without_a_host_there_is_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICCOLO_DB_HOST", "")
    assert PiccoloDBConfig().url is None


def test_the_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICCOLO_DB_PASSWORD", "hush-hush")
    assert "hush-hush" not in repr(PiccoloDBConfig())
