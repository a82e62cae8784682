"""What the sequencer can be told about its database."""

import pytest
from api_server.exceptions import SettingsError
from api_server.settings import read_settings
from throttling_sequencer.core.database_config import PiccoloDBConfig


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENV_TYPE", "PICCOLO_DB_RUN_MIGRATIONS", "PICCOLO_DB_POOL_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_migrations_are_applied_by_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not PiccoloDBConfig().run_migrations
    monkeypatch.setenv("piccolo_db_run_migrations", "true")
    assert PiccoloDBConfig().run_migrations


@pytest.mark.parametrize(("name", "value"), [("ENV_TYPE", "production"), ("env_type", "Production")])
def test_production_refuses_to_migrate_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    read_settings(PiccoloDBConfig)
    monkeypatch.setenv("PICCOLO_DB_RUN_MIGRATIONS", "true")
    with pytest.raises(SettingsError) as caught:
        read_settings(PiccoloDBConfig)
    assert str(caught.value) == (
        "PICCOLO_DB_RUN_MIGRATIONS should not be true where ENV_TYPE is production: there, migrations are applied by "
        "whoever deploys, before the service starts."
    )


def test_development_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_TYPE", "development")
    monkeypatch.setenv("PICCOLO_DB_RUN_MIGRATIONS", "true")
    read_settings(PiccoloDBConfig)


def test_a_pool_has_room_for_a_connection_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PiccoloDBConfig().pool_size == 5
    monkeypatch.setenv("PICCOLO_DB_POOL_SIZE", "0")
    with pytest.raises(SettingsError, match="PICCOLO_DB_POOL_SIZE is '0', and should be greater than or equal to 1"):
        read_settings(PiccoloDBConfig)


@pytest.mark.parametrize(
    ("hosts", "ports", "addresses"),
    [("", "", ()), ("a", "", (("a", 5432),)), ("a,b", "7", (("a", 7), ("b", 7))), ("a,b", "1,2", (("a", 1), ("b", 2)))],
)
def test_each_host_has_its_port(
    monkeypatch: pytest.MonkeyPatch, hosts: str, ports: str, addresses: tuple[tuple[str, int], ...]
) -> None:
    monkeypatch.setenv("PICCOLO_DB_HOST", hosts)
    monkeypatch.setenv("PICCOLO_DB_PORT", ports)
    assert PiccoloDBConfig().addresses == addresses
