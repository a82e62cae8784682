"""How events travel: as what they are, to who knows them, and as nothing to anybody else."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import pytest
import structlog
from api_server.event_bus import BaseEvent
from api_server.events import PresetChanged
from api_server.services.event_relay import _ANNOUNCEMENT, _announcement, _understood
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _every_level() -> Iterator[None]:
    """Log from debug on, whatever a test before this one configured."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


ID = "0199aaaa-0000-7000-8000-000000000000"


class Colour(StrEnum):
    RED = "red"


class Happened(BaseEvent):
    key: UUID
    at: datetime
    took: timedelta
    costs: Decimal
    colour: Colour
    numbers: tuple[int, ...] = ()
    note: str | None = None


class HappenedAgain(Happened):
    times: int


def travelled(event: BaseEvent) -> BaseEvent:
    understood = _understood(_ANNOUNCEMENT.dump_json(_announcement(event)).decode())
    assert understood is not None
    return understood[1]


HAPPENED = {
    "key": UUID(ID),
    "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "took": timedelta(days=1, microseconds=1),
    "costs": Decimal("0.10"),
    "colour": Colour.RED,
    "numbers": (1, 2),
}


@pytest.mark.parametrize(
    "event",
    [
        PresetChanged(preset_id=UUID(ID), kind="scenario"),
        Happened(**HAPPENED),  # type: ignore[arg-type]  # values of several types
        HappenedAgain(**HAPPENED, times=2, note='"\x00é\n'),  # type: ignore[arg-type]  # the same
    ],
)
def test_an_event_arrives_as_what_it_was(event: BaseEvent) -> None:
    assert travelled(event) == event
    assert type(travelled(event)) is type(event)


def test_each_announcement_is_one_of_its_own() -> None:
    event = PresetChanged(preset_id=UUID(ID), kind="scenario")
    assert _announcement(event).id != _announcement(event).id


def announcement(name: str, fields: object) -> str:
    return json.dumps({"id": ID, "event": name, "fields": fields})


def understood(payload: str) -> tuple[object, Sequence[tuple[str, str]]]:
    """Return what a payload means here, and the lines that the log then has."""
    with capture_logs() as lines:
        found = _understood(payload)
    return found, [(line["event"], line["log_level"]) for line in lines]


@pytest.mark.parametrize(
    "name",
    [
        "antigravity:Event",
        "os:system",
        "api_server.event_bus.event:BaseEvent",
        "api_server.events:ofAnotherRelease",
        "",
    ],
)
def test_an_event_that_is_not_known_here_is_left_out_and_never_imported(name: str) -> None:
    import sys

    modules = set(sys.modules)
    assert understood(announcement(name, {})) == (None, [("an event is not known here", "debug")])
    assert set(sys.modules) == modules


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "[" * 7000,
        "{}",
        json.dumps({"id": "1", "event": "api_server.events:PresetChanged", "fields": {}}),
        announcement("api_server.events:PresetChanged", []),
        announcement("api_server.events:PresetChanged", {}),
        announcement("api_server.events:PresetChanged", {"preset_id": "hush-hush", "kind": "x"}),
    ],
)
def test_what_is_no_announcement_is_left_out_without_repeating_it(payload: str) -> None:
    assert understood(payload) == (None, [("an announcement is not understood", "warning")])
    with capture_logs() as lines:
        _understood(payload)
    assert "hush" not in str(lines)


def test_what_another_release_adds_is_left_out() -> None:
    payload = announcement("api_server.events:PresetChanged", {"preset_id": ID, "kind": "x", "colour": "red"})
    assert understood(payload) == ((UUID(ID), PresetChanged(preset_id=UUID(ID), kind="x")), [])
