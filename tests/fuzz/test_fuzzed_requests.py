"""Requests at random, as the schemas have them and as they do not: what is answered is what is documented."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from fuzzing import BOUNDED, SEED
from hypothesis import given, seed
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.graphql import nodes
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi import checks as openapi_checks
from sequencer_process import Sequencer

pytestmark = pytest.mark.slow

AnyCase = Case[Any]
AnyOperation = APIOperation[Any, Any, Any, Any]

UNEXPECTED = "INTERNAL_SERVER_ERROR"

# What fits the schema may break a rule of the game: a mass in a range, a strategy that exists, a target for each unit.
LEFT_OUT: list[CheckFunction] = [openapi_checks.positive_data_acceptance]


# Sent as literals, what a scalar of any JSON may be: graphql-core's nodes.
schemathesis.graphql.scalar(
    "JSON",
    st.sampled_from([1, 10**400]).map(nodes.Int)
    | st.floats(allow_nan=False, allow_infinity=False).map(nodes.Float)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(nodes.String)
    | st.just(nodes.Null),
)


def each_way(schema: BaseSchema) -> Iterator[tuple[AnyOperation, GenerationMode]]:
    for result in schema.get_all_operations():
        for mode in GenerationMode:
            assert isinstance(result, Ok)
            yield result.ok(), mode


def ask(operation: AnyOperation, mode: GenerationMode, check: Callable[[AnyCase], None]) -> None:
    """Have cases of an operation checked; where there is no wrong way to ask it, there are none."""

    @seed(SEED)
    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: AnyCase) -> None:
        check(case)

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE


def test_rest_answers_as_documented(fuzzed: Sequencer) -> None:
    """All checks of Schemathesis: no 5xx, documented statuses, types, headers and bodies, wrong input refused."""
    found: list[str] = []
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    assert len(list(schema.get_all_operations())) > 20
    with requests.Session() as session:

        def check(case: AnyCase) -> None:
            try:
                case.call_and_validate(session=session, excluded_checks=LEFT_OUT)
            except FailureGroup as group:
                found.extend(f"{case.operation.label}: {failure}" for failure in group.exceptions)

        for operation, mode in each_way(schema):
            ask(operation, mode, check)
    assert found == []


def test_graphql_answers_whatever_its_schema_allows(fuzzed: Sequencer) -> None:
    """An error may say what is wrong with the values, never that something went wrong here."""
    schema = schemathesis.graphql.from_url(f"{fuzzed.url}/graphql")
    assert len(list(schema.get_all_operations())) > 10
    with requests.Session() as session:

        def check(case: AnyCase) -> None:
            answer = case.call(session=session)
            assert answer.status_code == 200, answer.text
            assert UNEXPECTED not in answer.text

        for operation, mode in each_way(schema):
            if mode is GenerationMode.POSITIVE:
                ask(operation, mode, check)
