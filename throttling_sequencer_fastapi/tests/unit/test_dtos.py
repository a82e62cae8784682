"""What travels over REST is refused in little time, however much of it is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError
from throttling_sequencer.api.http.v1.dtos import PlanRequestDto

UNIT: dict[str, Any] = {"coordinate": {"x": 0, "y": 0}, "speed": 0, "mass": 1, "friction": 0}
STATE: dict[str, Any] = {"player_units": [UNIT], "enemy_units": [UNIT]}
MANY: dict[str, Any] = {f"k{number}": 1 for number in range(1_000)}


def complaints(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        PlanRequestDto.model_validate(document)
    return [error["msg"] for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("field", "item", "found"),
    [("player_units", 1, 1), ("player_units", {}, 4), ("enemy_units", None, 1), ("targets", "x", 1), ("include", 1, 1)],
)
def test_of_a_list_the_first_that_is_wrong_is_told(field: str, item: object, found: int) -> None:
    assert len(complaints({**STATE, field: [item] * 1_000})) == found


@pytest.mark.parametrize(
    "document",
    [
        MANY,
        {**STATE, "player_units": [MANY]},
        {**STATE, "player_units": [{**UNIT, "coordinate": MANY}]},
    ],
)
def test_of_very_many_fields_their_number_is_told(document: dict[str, Any]) -> None:
    assert complaints(document) == ["Value error, should have at most 20 fields"]


@pytest.mark.parametrize(("setting", "number", "most"), [(None, 1_001, 1_000), ("300", 301, 300)])
def test_of_units_that_are_too_many_none_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, number: int, most: int
) -> None:
    if setting:
        monkeypatch.setenv("SEQUENCER_MAX_UNITS", setting)
    units = [{**UNIT, "speed": "none of them is read"}] * number
    for side in ("player_units", "enemy_units"):
        assert complaints({**STATE, side: units}) == [f"Value error, should hold at most {most} units"]
    assert PlanRequestDto.model_validate({**STATE, "enemy_units": [UNIT] * most})


def test_what_is_good_is_taken() -> None:
    taken = PlanRequestDto.model_validate({**STATE, "targets": [0], "include": ["trajectory"]})
    assert (len(taken.player_units), taken.targets, taken.include) == (1, [0], ["trajectory"])
