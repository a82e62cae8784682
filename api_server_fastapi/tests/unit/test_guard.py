"""A document is refused before any of it is executed where it asks too much, and told by which limit."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_server.graphql.context import GraphQLContext
from api_server.graphql.guard import GraphQLLimits, broken_limits
from api_server.graphql.schema import CodedErrorSchema
from api_server.services.registry import ServiceRegistry
from api_server.settings import Settings
from graphql import GraphQLSyntaxError, get_introspection_query, parse
from guarded_app import guarded_schema, resolved
from hostile_documents import INTROSPECTION, doubling_fragments
from limited_documents import COUNTED, LIMITED

# What GraphiQL asks first: the descriptions and all that it finds the server to know.
GRAPHIQL = get_introspection_query(input_value_deprecation=True, schema_description=True)


@pytest.fixture(scope="module")
def schema() -> CodedErrorSchema:
    return guarded_schema()


@pytest.fixture(autouse=True)
def nothing_resolved() -> Iterator[None]:
    resolved.clear()
    yield
    resolved.clear()


async def ask(
    schema: CodedErrorSchema, query: str, operation_name: str | None = None, **variables: Any
) -> tuple[Any, list[Any]]:
    """Return the data and the errors as they are sent."""
    context = GraphQLContext(ServiceRegistry(), principal=None)
    result = await schema.execute(query, variables, context_value=context, operation_name=operation_name)
    return result.data, [dict(error.formatted) for error in result.errors or []]


def plainly(query: str) -> str:
    return query


def in_inline_fragments(query: str) -> str:
    return f"{{...{{...on Query{query}}}}}"


def in_a_fragment(query: str) -> str:
    return f"query Q{{...F}}fragment F on Query{query}"


def in_fragments_of_fragments(query: str) -> str:
    return f"fragment G on Query{query} fragment F on Query{{...G}} query Q{{...F}}"


def in_another_operation(query: str) -> str:
    return f"query Q{{answer}}query Other{query}"


FORMS = [plainly, in_inline_fragments, in_a_fragment, in_fragments_of_fragments, in_another_operation]


@pytest.mark.parametrize("limit", LIMITED)
async def test_as_much_as_is_allowed_is_answered(schema: CodedErrorSchema, limit: str) -> None:
    allowed, document = LIMITED[limit]
    data, errors = await ask(schema, document(allowed))
    assert errors == []
    assert data
    assert resolved != []


@pytest.mark.parametrize("limit", LIMITED)
async def test_one_more_is_refused_by_name_and_number(schema: CodedErrorSchema, limit: str) -> None:
    allowed, document = LIMITED[limit]
    data, errors = await ask(schema, document(allowed + 1))
    assert data is None
    assert [error["extensions"] for error in errors] == [
        {"code": "GRAPHQL_LIMIT_EXCEEDED", "limit": limit, "allowed": allowed}
    ]
    assert f"at most {allowed}" in errors[0]["message"]
    assert resolved == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", COUNTED)
async def test_fragments_and_other_operations_hide_nothing(
    schema: CodedErrorSchema, limit: str, form: Callable[[str], str]
) -> None:
    allowed, document = COUNTED[limit]
    name = "Q" if form not in (plainly, in_inline_fragments) else None
    assert (await ask(schema, form(document(allowed)), name))[1] == []
    assert resolved != []
    resolved.clear()
    _, errors = await ask(schema, form(document(allowed + 1)), name)
    assert [error["extensions"]["limit"] for error in errors] == [limit]
    assert resolved == []


@pytest.mark.parametrize("limit", [limit for limit in COUNTED if limit != "rootFields"])
@pytest.mark.parametrize(
    "form",
    [
        "query Q{{answer}}fragment F on Query{0}",
        "query Q{{answer}}fragment G on Query{{...F}}fragment F on Query{0}",
        "query Q{{...F}}fragment F on Query{0}fragment F on Query{{answer}}",
    ],
    ids=["spread by nothing", "by nothing that is spread", "defined twice"],
)
async def test_fragments_that_no_operation_reaches_are_measured_too(
    schema: CodedErrorSchema, limit: str, form: str
) -> None:
    allowed, document = COUNTED[limit]
    _, errors = await ask(schema, form.format(document(allowed + 1)))
    assert [error["extensions"].get("limit") for error in errors] == [limit]
    _, errors = await ask(schema, form.format(document(allowed)))
    assert {error["extensions"]["code"] for error in errors} == {"GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(
    ("fragment", "limit", "allowed"),
    [
        ("name name name name name name", "fields", 200),
        ("a:name b:name c:name", "aliases", 15),
        ("name@skip(if:true)@include(if:true)", "directives", 20),
    ],
)
async def test_a_fragment_counts_as_often_as_it_is_spread(
    schema: CodedErrorSchema, fragment: str, limit: str, allowed: int
) -> None:
    """The last of three fragments, each of which has the next one six times, is there 36 times."""
    uses = " ".join(["...F"] * 6), " ".join(["...G"] * 6)
    document = f"{{thing{{{uses[0]}}}}}fragment F on Thing{{{uses[1]}}}fragment G on Thing{{{fragment}}}"
    _, errors = await ask(schema, document)
    assert {"code": "GRAPHQL_LIMIT_EXCEEDED", "limit": limit, "allowed": allowed} in [e["extensions"] for e in errors]
    _, errors = await ask(schema, document.replace(uses[0], "...F").replace(uses[1], "...G"))
    assert errors == []


async def test_depth_is_that_of_the_place_where_a_fragment_is_spread(schema: CodedErrorSchema) -> None:
    fragment = "fragment F on Thing{thing{thing{name}}}"
    allowed, one_more = ("{" + "thing{" * times + "...F" + "}" * (times + 1) + fragment for times in (7, 8))
    assert (await ask(schema, allowed))[1] == []
    assert [error["extensions"]["limit"] for error in (await ask(schema, one_more))[1]] == ["depth"]


async def test_directives_count_wherever_they_stand(schema: CodedErrorSchema) -> None:
    limits = GraphQLLimits(directives=5)
    document = "query($a:Int@a)@b{...F@c ...@d{answer@e}}fragment F on Query@f{answer}"
    assert [error.extensions and error.extensions["limit"] for error in broken_limits(parse(document), limits)] == [
        "directives"
    ]
    assert broken_limits(parse(document.replace("@f", "")), limits) == []


async def test_each_broken_limit_is_told(schema: CodedErrorSchema) -> None:
    _, errors = await ask(schema, "{" + " ".join(f"a{each}:answer" for each in range(20)) + "}")
    assert {error["extensions"]["limit"] for error in errors} == {"rootFields", "aliases"}


@pytest.mark.parametrize("number", range(10, 46, 5))
def test_doubling_fragments_are_measured_in_no_time(number: int) -> None:
    document = parse(doubling_fragments(number))
    taken = []
    for _ in range(5):
        begun = time.thread_time()
        problems = broken_limits(document, GraphQLLimits())
        taken.append(time.thread_time() - begun)
    assert min(taken) <= 0.005
    assert [problem.extensions and problem.extensions["limit"] for problem in problems] == ["fields", "rootFields"]


@pytest.mark.parametrize("document", ["{...F}fragment F on Query{...G}fragment G on Query{...F}", "{...F}"])
async def test_cycles_and_holes_are_left_to_the_validation(schema: CodedErrorSchema, document: str) -> None:
    _, errors = await ask(schema, document)
    assert {error["extensions"]["code"] for error in errors} == {"GRAPHQL_VALIDATION_FAILED"}


def test_a_long_chain_of_fragments_is_no_deep_recursion() -> None:
    """Operators may allow more tokens than Python has frames."""
    number = 1200
    chain = "".join(f"fragment F{each} on Query{{...F{each + 1}}}" for each in range(number))
    document = parse(f"{{...F0}}{chain}fragment F{number} on Query{{answer}}")
    assert broken_limits(document, GraphQLLimits(fields=1)) == []
    assert len(broken_limits(document, GraphQLLimits(fields=0))) == 1


@pytest.mark.parametrize("query", [INTROSPECTION, GRAPHIQL, get_introspection_query()])
async def test_the_standard_introspection_passes_all_limits(schema: CodedErrorSchema, query: str) -> None:
    data, errors = await ask(schema, query)
    assert errors == []
    assert data["__schema"]["queryType"]["name"] == "Query"


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("{__schema{types{fields{type{fields{name}}}}}}", "introspectionDepth"),
        (
            "{__schema{...S}}fragment S on __Schema{types{...T}}fragment T on __Type{fields{type{fields{name}}}}",
            "introspectionDepth",
        ),
        ('{__type(name:"Thing"){fields{type{fields{type{fields{name}}}}}}}', "introspectionDepth"),
        ("{__schema{a:types{name}b:types{name}}}", "introspectionAliases"),
        ("{__schema{...S}}fragment S on __Schema{a:types{name}}", "introspectionAliases"),
        ("{a:__schema{types{name}}}", "introspectionAliases"),
    ],
)
async def test_introspection_that_multiplies_is_refused(schema: CodedErrorSchema, query: str, limit: str) -> None:
    _, errors = await ask(schema, query)
    assert [error["extensions"]["limit"] for error in errors] == [limit]


async def test_what_lies_beside_introspection_is_counted(schema: CodedErrorSchema) -> None:
    allowed, document = COUNTED["depth"]
    beside = document(allowed + 1).replace("{", "{__schema{queryType{name}}", 1)
    assert [error["extensions"]["limit"] for error in (await ask(schema, beside))[1]] == ["depth"]


@pytest.mark.parametrize(
    "query",
    [
        "{__schema{types{name}}}",
        '{__type(name:"Thing"){name}}',
        "{...F}fragment F on Query{__schema{types{name}}}",
        "{...on Query{renamed:__schema{types{name}}}}",
        "query Q{answer}query Other{__schema{types{name}}}",
        INTROSPECTION,
    ],
)
async def test_a_schema_that_is_not_told_is_not_told(query: str) -> None:
    _, errors = await ask(guarded_schema(GraphQLLimits(introspection=False)), query)
    assert [error["extensions"]["code"] for error in errors] == ["INTROSPECTION_DISABLED"]
    assert "does not tell its schema" in errors[0]["message"]
    assert resolved == []


async def test_the_name_of_a_type_is_told_always() -> None:
    data, errors = await ask(guarded_schema(GraphQLLimits(introspection=False)), "{__typename thing{__typename}}")
    assert errors == []
    assert data == {"__typename": "Query", "thing": {"__typename": "Thing"}}


MISSPELLED = {
    "a field": "{answe}",
    "a nested field": "{thing{nam}}",
    "an argument": "{thing(numbe:1){name}}",
    "an argument of a directive": "{answer @skip(i:true)}",
    "a variable's type": "query($a:Shap){answer}",
    "a fragment's type": "{thing{...on Thin{name}}}",
    "an enum's value": "{thing(shape:{colour:GREE}){name}}",
    "an input's field": '{thing(shape:{nam:""}){name}}',
    "an input's field in a variable": "query($a:Shape){thing(shape:$a){name}}",
    "an enum's value in a variable": "query($b:Shape){thing(shape:$b){name}}",
    "an enum's value by default": "query($c:Shape={colour:GREE}){thing(shape:$c){name}}",
}
VALUES = {"a": {"nam": ""}, "b": {"colour": "GREE"}}


@pytest.mark.parametrize("what", MISSPELLED)
async def test_what_may_have_been_meant_is_said_where_it_should(schema: CodedErrorSchema, what: str) -> None:
    _, errors = await ask(schema, MISSPELLED[what], None, **VALUES)
    assert "Did you mean" in str(errors)
    _, errors = await ask(guarded_schema(GraphQLLimits(suggestions=False)), MISSPELLED[what], None, **VALUES)
    assert errors != []
    assert "did you mean" not in str(errors).lower()


async def test_only_so_many_errors_are_looked_for(schema: CodedErrorSchema) -> None:
    _, errors = await ask(schema, "{thing{" + " ".join(f"nope{each}" for each in range(100)) + "}}")
    assert len(errors) == 21
    assert errors[-1]["message"].startswith("Too many validation errors")


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{" + "a" * 60_000 + "}", {}),
        ('{thing(number:"' + "a" * 60_000 + '"){name}}', {}),
        ("{thing " + "a" * 60_000, {}),
        ("query($a:Shape){thing(shape:$a){name}}", {"a": {"a" * 60_000: 1}}),
    ],
)
async def test_an_error_does_not_repeat_all_that_was_written(
    schema: CodedErrorSchema, query: str, variables: dict[str, Any]
) -> None:
    _, errors = await ask(schema, query, **variables)
    assert errors != []
    assert len(str(errors)) < 1000


async def test_an_error_does_not_tell_all_its_places(schema: CodedErrorSchema) -> None:
    _, errors = await ask(schema, doubling_fragments(30).replace("{answer}", "{...F0}"))
    assert "within itself via" in errors[0]["message"]
    assert len(errors[0]["locations"]) == 10


NESTED = {
    "selections": ("{a", "", "", "}"),
    "lists": ("[", "{thing(names:", "", "]"),
    "objects": ("{inner:", "{thing(shape:", "null", "}"),
    "types": ("[", "query($a:", "Int", "]"),
    "inline fragments": ("...{", "{", "answer", "}"),
}


@pytest.mark.parametrize("what", NESTED)
@pytest.mark.parametrize("tokens", [400, 10_000, 1_000_000])
@pytest.mark.parametrize("number", [201, 3000, 20_000])
def test_what_is_nested_too_deep_is_a_syntax_error(what: str, tokens: int, number: int) -> None:
    """Where operators allow more tokens, too; and where most of Python's stack is used already."""
    opening, before, inside, closing = NESTED[what]
    document = before + opening * number + inside + closing * number + (")" if before.endswith(":") else "")
    limits = GraphQLLimits(tokens=tokens, characters=10**6)

    def refused(frames: int) -> None:
        if frames:
            refused(frames - 1)
            return
        with pytest.raises(GraphQLSyntaxError):
            parse(document, **limits.parse_options(document))

    refused(0)
    refused(600)


async def test_the_deepest_selections_that_operators_can_allow_are_answered(schema: CodedErrorSchema) -> None:
    generous = guarded_schema(GraphQLLimits(depth=100))
    data, errors = await ask(generous, "{" + "thing{" * 99 + "name" + "}" * 100)
    assert errors == []
    assert str(data).count("thing") == 100


@pytest.mark.parametrize("argument", ["number:{}", "ratio:{}", "document:{{a:[{}]}}"])
async def test_a_number_has_only_so_many_digits(schema: CodedErrorSchema, argument: str) -> None:
    """Python refuses to read longer ones by an exception."""
    for number in ("1" * 1001, "1" * 5000, "0." + "1" * 1000):
        _, errors = await ask(schema, f"{{thing({argument.format(number)}){{name}}}}")
        assert [error["extensions"] for error in errors] == [
            {"code": "GRAPHQL_LIMIT_EXCEEDED", "limit": "digits", "allowed": 1000}
        ]
    _, errors = await ask(schema, f"query($a:Int={'1' * 5000}){{thing(number:$a){{name}}}}")
    assert [error["extensions"]["limit"] for error in errors] == ["digits"]
    _, errors = await ask(schema, f"{{thing({argument.format('1' * 1000)}){{name}}}}")
    assert [error["extensions"]["code"] for error in errors] in ([], ["GRAPHQL_VALIDATION_FAILED"])


async def test_a_long_document_is_not_told_where_its_errors_are(schema: CodedErrorSchema) -> None:
    """To count the lines before each error would take seconds."""
    assert "locations" in (await ask(schema, "\n" * 2000 + "{nope}"))[1][0]
    assert "locations" not in (await ask(schema, "\n" * 2001 + "{nope}"))[1][0]


def test_limits_are_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GraphQLLimits.of(Settings()) == GraphQLLimits()
    for name, value in {"TOKENS": 11, "DEPTH": 2, "FIELDS": 3, "ROOT_FIELDS": 4, "ALIASES": 5, "DIRECTIVES": 6}.items():
        monkeypatch.setenv(f"API_SERVER_GRAPHQL_{name}", str(value))
    monkeypatch.setenv("API_SERVER_GRAPHQL_BODY_LIMIT", "4096")
    monkeypatch.setenv("ENV_TYPE", "production")
    assert GraphQLLimits.of(Settings()) == GraphQLLimits(
        characters=4096,
        tokens=11,
        depth=2,
        fields=3,
        root_fields=4,
        aliases=5,
        directives=6,
        introspection=False,
        suggestions=False,
    )
