"""Documents that ask for exactly so much of what is limited, on the schema of `guarded_app`."""

from collections.abc import Callable

from api_server.graphql.guard import GraphQLLimits

DEFAULTS = GraphQLLimits()


def _depth(number: int) -> str:
    return "{" + "thing{" * (number - 1) + "name" + "}" * number


def _fields(number: int) -> str:
    return "{thing{" + "name " * (number - 1) + "}}"


def _root_fields(number: int) -> str:
    return "{" + "answer " * number + "}"


def _aliases(number: int) -> str:
    return "{thing{" + " ".join(f"a{each}:name" for each in range(number)) + "}}"


def _directives(number: int) -> str:
    return "{thing{" + "name@skip(if:false) " * number + "}}"


def _tokens(number: int) -> str:
    return "{thing(names:[" + " ".join('"a"' for _ in range(number - 12)) + "]){name}}"


def _comments(number: int) -> str:
    return "#\n" * number + "{answer}"


def _characters(number: int) -> str:
    return "{answer}".ljust(number)


COUNTED: dict[str, tuple[int, Callable[[int], str]]] = {
    "depth": (DEFAULTS.depth, _depth),
    "fields": (DEFAULTS.fields, _fields),
    "rootFields": (DEFAULTS.root_fields, _root_fields),
    "aliases": (DEFAULTS.aliases, _aliases),
    "directives": (DEFAULTS.directives, _directives),
}
"""What is counted in the document: the name of the limit, its default, and what asks for that much."""

READ: dict[str, tuple[int, Callable[[int], str]]] = {
    "tokens": (DEFAULTS.tokens, _tokens),
    "comments": (DEFAULTS.tokens, _comments),
    "characters": (DEFAULTS.characters, _characters),
}
"""What is counted while it is read."""

LIMITED = {**COUNTED, **READ}
