"""Which documents can be kept."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from api_server.exceptions import InvalidFieldsError
from api_server.services.preset_documents import checked_document
from api_server.validation import FieldProblem
from hypothesis import given, settings
from hypothesis import strategies as st
from preset_faces import Note, Theme
from pydantic import BaseModel, computed_field

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def problem_of(document: object, model: type[BaseModel] = Note) -> tuple[str, str]:
    with pytest.raises(InvalidFieldsError) as raised:
        checked_document(model, document)
    [problem] = raised.value.problems
    return problem["field"], problem["rule"]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@given(JSON)
@settings(max_examples=50)
def test_what_is_kept_can_be_written_and_is_accepted_again(content: object) -> None:
    refused: Sequence[FieldProblem] = ()
    try:
        kept = checked_document(Note, {"is": content})
    except InvalidFieldsError as error:
        kept, refused = {}, error.problems
    assert all(problem["field"].startswith("document") for problem in refused)
    assert json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()
    assert not any("\x00" in text for text in texts(kept))
    assert refused or checked_document(Note, kept) == kept


@pytest.mark.parametrize("depth", [200, 1_000, 29_000])
def test_nesting_has_an_end(depth: int) -> None:
    assert checked_document(Note, {"is": nested(150)})["is"] == nested(150)
    assert problem_of({"is": nested(depth)}) == ("document", "is nested too deeply")


def test_a_number_that_no_reader_knows_is_named() -> None:
    for number in (10**5000, -(10**5000), 10**309, -(10**309)):
        assert problem_of({"is": [0, number]}) == ("document.is[1]", "should be a number that JSON can carry")


def test_digits_that_are_text_are_text() -> None:
    digits = "9" * 400
    assert checked_document(Note, {"is": digits})["is"] == digits


def test_text_of_many_digits_is_checked_in_no_time() -> None:
    began = time.thread_time()
    checked_document(Note, {"is": ("9" * 308 + "x") * 3_300})
    assert time.thread_time() - began < 0.3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_named(number: float) -> None:
    assert problem_of({"is": {"deep": [number]}}) == ("document.is.deep[0]", "should be a finite number")


@pytest.mark.parametrize("text", ["inf", "nan", "1e999"])
def test_a_number_that_a_model_makes_of_text_is_finite_too(text: str) -> None:
    assert problem_of({"weight": text}) == ("document.weight", "should be a finite number")


@pytest.mark.parametrize("value", [object(), b"x", {1}])
def test_what_is_no_json_is_named(value: object) -> None:
    assert problem_of({"is": [value]}) == ("document.is[0]", "should be JSON")


@pytest.mark.parametrize(
    "make", [lambda size: "x" * size, lambda size: "ä" * (size // 2), lambda size: [["x" * (size // 2)] * 2]]
)
def test_a_document_is_a_mebibyte_at_most(make: Callable[[int], object]) -> None:
    fits = {"is": make(2**20 - 40)}
    assert checked_document(Note, fits)["is"] == fits["is"]
    assert problem_of({"is": make(2**20 + 10)}) == ("document", "should be at most 1048576 bytes of JSON")


def test_a_document_holds_so_many_values_at_most() -> None:
    fits: Any = {"is": [{"a": 1}] * 14_999, "weight": 0.0}
    assert checked_document(Note, fits) == fits
    fits["is"].append({})
    assert problem_of(fits) == ("document", "should hold at most 30000 values")


def test_of_very_many_problems_the_number_is_told() -> None:
    class Names(BaseModel):
        names: list[str]

    assert problem_of({"names": [1] * 2_000}, Names) == ("document", "breaks rules in 2000 places")


def test_what_a_model_computes_is_not_kept() -> None:
    class Square(BaseModel, extra="forbid"):
        side: float

        @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
        @property
        def area(self) -> float:
            return self.side**2

    kept: dict[str, Any] = checked_document(Square, {"side": 2})
    assert kept == {"side": 2.0}


def test_a_rule_about_the_whole_speaks_for_itself() -> None:
    assert problem_of({"background": "#000000"}, Theme) == ("document.background", "should differ from the text")
