"""A zoo of documents that mean harm, each built by what makes it cost; none is longer than a body may be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from graphql import get_introspection_query

LONGEST = 64 * 1024 - 256


@dataclass(frozen=True)
class Hostile:
    query: str
    variables: dict[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
    is_answered: bool = False
    """Whether it is cheap enough to be answered after all."""


def doubling_fragments(number: int, on: str = "Query", leaf: str = "answer") -> str:
    """Fragments of which each has the next one twice."""
    links = (f"fragment F{link} on {on}{{...F{link + 1} ...F{link + 1}}}" for link in range(number - 1))
    return f"{{...F0}}{''.join(links)}fragment F{number - 1} on {on}{{{leaf}}}"


def nested(number: int, before: str, opening: str, inside: str, closing: str, after: str) -> str:
    return f"{before}{opening * number}{inside}{closing * number}{after}"


def nested_value(number: int, key: str = "inner") -> Any:
    value: Any = {}
    for _ in range(number):
        value = {key: value}
    return value


def nested_list(number: int) -> Any:
    value: Any = []
    for _ in range(number):
        value = [value]
    return value


def filled(before: str, filling: str, after: str) -> str:
    """As long as a document may be."""
    return before + filling * ((LONGEST - len(before) - len(after)) // len(filling)) + after


def _several(text: Callable[[int], str], number: int) -> str:
    return " ".join(text(each) for each in range(number))


def _fragments() -> Iterator[tuple[str, Hostile]]:
    for number in (10, 20, 30, 39, 45):
        yield f"{number} doubling fragments", Hostile(doubling_fragments(number))
        yield (
            f"{number} doubling fragments within introspection",
            Hostile(
                doubling_fragments(number, "__Type", "name").replace("{...F0}", "{__schema{types{...F0}}}", 1),
                is_answered=number < 40,
            ),
        )
    yield "a cycle of fragments", Hostile(doubling_fragments(30).replace("{answer}", "{...F0}"))
    everyone = _several(lambda each: f"...F{each}", 12)
    yield (
        "fragments that all have each other",
        Hostile("{...F0}" + _several(lambda each: f"fragment F{each} on Query{{{everyone}}}", 12)),
    )
    yield "a fragment of itself", Hostile("{...F}fragment F on Query{...F answer}")
    yield "fragments nobody knows", Hostile("{" + _several(lambda each: f"...F{each}", 190) + "}")
    yield (
        "fragments nobody uses",
        Hostile("{answer}" + _several(lambda each: f"fragment F{each} on Query{{answer}}", 55)),
    )


def _nesting() -> Iterator[tuple[str, Hostile]]:
    for number in (150, 190, 200, 3000, 20_000):
        yield f"selections {number} deep", Hostile(nested(number, "", "{thing", "{name}", "}", ""))
        yield f"open braces {number} deep", Hostile("{a" * number)
        yield f"inline fragments {number} deep", Hostile(nested(number, "{", "...{", "answer", "}", "}"))
        yield f"lists {number} deep", Hostile(nested(number, "{thing(names:", "[", "", "]", "){name}}"))
        yield (
            f"untyped lists {number} deep",
            Hostile(nested(number, "{thing(document:", "[", "", "]", "){name}}"), is_answered=number < 200),
        )
        yield f"objects {number} deep", Hostile(nested(number, "{thing(shape:", "{inner:", "null", "}", "){name}}"))
        yield (
            f"lists of objects {number} deep",
            Hostile(nested(number, "{thing(shapes:", "{inners:", "1", "}", "){name}}")),
        )
        yield f"types {number} deep", Hostile(nested(number, "query($a:", "[", "Int", "]", "){answer}"))
        yield f"defaults {number} deep", Hostile(nested(number, "query($a:[Int]=", "[", "1", "]", "){answer}"))
        yield (
            f"arguments of directives {number} deep",
            Hostile(nested(number, "{answer @skip(if:", "[", "true", "]", ")}")),
        )
        yield (
            f"introspection {number} deep",
            Hostile(nested(number, '{__type(name:"Thing")', "{fields{type", "{name}", "}}", "}")),
        )
        yield (
            f"types of types {number} deep",
            Hostile(nested(number, "{__schema{types", "{ofType", "{name}", "}", "}}")),
        )


def _repeated_fields() -> Iterator[tuple[str, Hostile]]:
    yield "repeated fields", Hostile("{" + "thing{name}" * 98 + "}")
    yield "repeated fields within a thing", Hostile("{thing{" + "name " * 390 + "}}")
    yield "one alias for all", Hostile("{" + _several(lambda each: f"a:thing(number:{each}){{name}}", 38) + "}")
    yield "one alias for what is not there", Hostile("{thing{" + _several(lambda each: f"a:f{each}", 125) + "}}")
    yield "conflicts within 15 aliases", Hostile("{thing{" + "a:name b:thing{a:name} a:thing{b:name}" * 3 + "}}")
    yield "aliases", Hostile("{" + _several(lambda each: f"a{each}:answer", 130) + "}")
    yield "fields nobody knows", Hostile("{thing{" + _several(lambda each: f"nam{each}", 190) + "}}")
    yield "long fields nobody knows", Hostile("{thing{" + _several(lambda each: "n" * 300 + str(each), 190) + "}}")


def _repeated_arguments() -> Iterator[tuple[str, Hostile]]:
    yield "arguments", Hostile("{thing(" + _several(lambda each: f"numbe{each}:1", 125) + "){name}}")
    yield "one argument again and again", Hostile("{thing(" + "number:1 " * 125 + "){name}}")
    yield "fields of an input", Hostile("{thing(shape:{" + _several(lambda each: f"nam{each}:1", 120) + "}){name}}")
    yield "variables", Hostile("query(" + _several(lambda each: f"$a{each}:Int", 95) + "){answer}")
    yield (
        "variables of types nobody knows",
        Hostile("query(" + _several(lambda each: f"$a{each}:Shap", 95) + "){answer}"),
    )
    yield "variables nobody declared", Hostile("{thing(names:[" + _several(lambda each: f"$a{each}", 190) + "]){name}}")
    yield "one variable again and again", Hostile("query($a:Int){thing(names:[" + "$a " * 180 + "]){name}}")
    yield (
        "variables of many operations",
        Hostile(
            _several(lambda each: f"query Q{each}($a:Int){{...F}}", 25) + "fragment F on Query{thing(number:$b){name}}"
        ),
    )
    yield "directives", Hostile("{answer " + "@skip(if:false)" * 65 + "}")
    yield "directives on fields", Hostile("{thing{" + "name @skip(if:false) @include(if:true)" * 25 + "}}")
    yield "directives nobody knows", Hostile("{answer " + _several(lambda each: f"@a{each}", 195) + "}")
    yield "defer and stream", Hostile("{" + "...@defer(label:1){thing @stream(initialCount:0){name}}" * 18 + "}")
    yield "a few of defer", Hostile('{...@defer(label:"a"){answer} ...@defer(label:"a"){answer}}')
    yield "an enum's values", Hostile("{thing(shapes:[" + "{colour:GREE}" * 75 + "]){name}}")


def _operations() -> Iterator[tuple[str, Hostile]]:
    yield (
        "operations",
        Hostile(_several(lambda each: f"query Q{each}{{answer}}", 75), operation_name="Q1", is_answered=True),
    )
    yield "operations without a name", Hostile("{answer}" * 130)
    yield "operations of one name", Hostile("query Q{answer}" * 75, operation_name="Q")
    yield "an operation nobody knows", Hostile("query Q{answer}", operation_name="a" * 60_000)
    yield "no operation", Hostile("fragment F on Query{answer}")
    yield "a schema", Hostile("type A{a:Int}" * 50 + "{answer}")


def _characters() -> Iterator[tuple[str, Hostile]]:
    yield "commas", Hostile(filled("{answer", ",", "}"), is_answered=True)
    yield "lines", Hostile(filled("{answer", "\n", "}"), is_answered=True)
    yield "lines before many errors", Hostile(filled("{thing{", "\n", "nope " * 190 + "}}"))
    yield "carriage returns before few errors", Hostile(filled("{thing{", "\r", "nope " * 19 + "}}"))
    yield "lines before conflicts", Hostile(filled("{thing(", "\n", "number:1 " * 120 + "){name}}"))
    yield "marks of byte order", Hostile("\ufeff" * 60_000 + "{answer}", is_answered=True)
    yield "comments", Hostile(filled("", "#\n", "{answer}"))
    yield "a comment", Hostile(filled("#", "a", "\n{answer}"), is_answered=True)
    yield "a comment in the end", Hostile(filled("{answer}#", "\u00e9", ""), is_answered=True)
    yield "a name", Hostile(filled("{", "a", "}"))
    yield "an alias", Hostile(filled("{", "a", ":answer}"), is_answered=True)


def _strings() -> Iterator[tuple[str, Hostile]]:
    yield "a string", Hostile(filled('{thing(number:"', "a", '"){name}}'))
    yield "a string that fits", Hostile(filled('{thing(names:"', "a", '"){name}}'), is_answered=True)
    yield "a string that has no end", Hostile(filled('{thing(names:"', "a", ""))
    yield "escapes", Hostile(filled('{thing(number:"', "\\u0041", '"){name}}'))
    yield "escapes of escapes", Hostile(filled('{thing(number:"', "\\\\", '"){name}}'))
    yield "wide escapes", Hostile(filled('{thing(number:"', "\\u{1F600}", '"){name}}'))
    yield "halves of characters", Hostile(filled('{thing(number:"', "\\uD83D\\uDE00", '"){name}}'))
    yield "lone halves of characters", Hostile('{thing(names:"\\uD83D"){name}}')
    yield "a block", Hostile(filled('{thing(number:"""', "a\n ", '"""){name}}'))
    yield "a block of nothing", Hostile(filled('{thing(number:"""', "\n", '"""){name}}'))
    yield "a block of quotes", Hostile(filled('{thing(number:"""', '\\"""', '"""){name}}'))
    yield "strings", Hostile("{thing(names:[" + '""' * 380 + "],nope:1){name}}")


def _numbers() -> Iterator[tuple[str, Hostile]]:
    yield "an integer", Hostile(filled("{thing(number:", "1", "){name}}"))
    yield "an integer for a float", Hostile(filled("{thing(ratio:", "1", "){name}}"))
    yield "an integer of 4301 digits", Hostile("{thing(number:" + "1" * 4301 + "){name}}")
    yield "an integer of 300 digits", Hostile("{thing(number:" + "1" * 300 + "){name}}")
    yield "an integer for anything", Hostile(filled("{thing(document:{a:", "1", "}){name}}"))
    yield "an integer by default", Hostile(filled("query($a:Int=", "1", "){thing(number:$a){name}}"))
    yield "a fraction", Hostile(filled("{thing(ratio:1.", "1", "){name}}"))
    yield "an exponent", Hostile(filled("{thing(ratio:1e", "1", "){name}}"))
    yield "an infinite number", Hostile("{thing(ratio:1e999){name}}", is_answered=True)
    yield "an infinite number for anything", Hostile("{thing(document:[-1e999]){name}}", is_answered=True)
    yield "a number that is none", Hostile(filled("{thing(ratio:0", "1", "){name}}"))


def _nonsense() -> Iterator[tuple[str, Hostile]]:
    yield "quotes", Hostile(filled("", '"', ""))
    yield "dots", Hostile(filled("{", "...", "}"))
    yield "points and digits", Hostile(filled("{a(b:.", "1", ")}"))
    yield "what is no GraphQL", Hostile(filled("", "\x00", ""))
    yield "nulls", Hostile('{thing(names:["\x00"]){name}}', is_answered=True)


def _subscriptions() -> Iterator[tuple[str, Hostile]]:
    yield "several subscriptions", Hostile("subscription{" + "ticks " * 190 + "}")
    yield (
        "a subscription of everything",
        Hostile("subscription{...F}fragment F on Subscription{ticks failing __typename}"),
    )


def _introspection() -> Iterator[tuple[str, Hostile]]:
    yield "the schema again and again", Hostile("{" + "__schema{types{name}}" * 55 + "}")
    yield (
        "the schema under several names",
        Hostile("{" + _several(lambda each: f"a{each}:__schema{{types{{name}}}}", 15) + "}"),
    )
    yield (
        "types under several names",
        Hostile("{__schema{" + _several(lambda each: f"a{each}:types{{name}}", 15) + "}}"),
    )
    yield (
        "what wraps a type",
        Hostile("{__schema{types{fields{type{isOneOf ofType{isOneOf ofType{isOneOf}}}}}}}", is_answered=True),
    )
    yield "introspection, list within list", Hostile("{__schema{types{fields{type{fields{name}}}}}}")


def _variables() -> Iterator[tuple[str, Hostile]]:
    shapes = "query($a:[Shape!]){thing(shapes:$a){name}}"
    yield "lists in a variable", Hostile(shapes, {"a": nested_list(900)})
    yield "objects in a variable", Hostile("query($a:Shape){thing(shape:$a){name}}", {"a": nested_value(900)})
    yield "objects in lists in a variable", Hostile(shapes, {"a": nested_value(900, "inners")})
    yield (
        "anything in a variable",
        Hostile("query($a:JSON){thing(document:$a){name}}", {"a": nested_list(900)}, is_answered=True),
    )
    yield (
        "unknown fields in a variable",
        Hostile("query($a:Shape){thing(shape:$a){name}}", {"a": {f"nam{each}": 1 for each in range(5000)}}),
    )
    yield "wrong values in a variable", Hostile(shapes, {"a": [{"colour": "GREE"}] * 3000})
    yield (
        "long values in a variable",
        Hostile("query($a:Shape){thing(shape:$a){name}}", {"a": {"colour": "G" * 60_000}}),
    )
    yield "long fields in a variable", Hostile("query($a:Shape){thing(shape:$a){name}}", {"a": {"n" * 60_000: 1}})
    yield "unknown variables", Hostile("{answer}", {f"a{each}": each for each in range(5000)}, is_answered=True)
    yield "numbers in a variable", Hostile("query($a:[Int]){thing(names:$a){name}}", {"a": [1] * 20_000})
    yield "wrong numbers in a variable", Hostile("query($a:Int){thing(number:$a){name}}", {"a": 10**4000})
    yield "an infinite number in a variable", Hostile("query($a:Int){thing(number:$a){name}}", {"a": float("inf")})
    yield "an infinite ratio in a variable", Hostile("query($a:Float){thing(ratio:$a){name}}", {"a": float("inf")})
    yield "the wrong type of a variable", Hostile("query($a:Int){thing(number:$a){name}}", {"a": {"a": [1] * 5000}})


ZOO: dict[str, Hostile] = dict(
    chain(
        _fragments(),
        _nesting(),
        _repeated_fields(),
        _repeated_arguments(),
        _operations(),
        _characters(),
        _strings(),
        _numbers(),
        _nonsense(),
        _subscriptions(),
        _introspection(),
        _variables(),
    )
)
INTROSPECTION = get_introspection_query(
    descriptions=True,
    specified_by_url=True,
    directive_is_repeatable=True,
    schema_description=True,
    input_value_deprecation=True,
    one_of=True,
)
