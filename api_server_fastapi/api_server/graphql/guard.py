"""Refuses documents that ask too much before anything else is done about them, and says what others have wrong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api_server.settings import Settings

LIMIT_EXCEEDED = "GRAPHQL_LIMIT_EXCEEDED"
INTROSPECTION_DISABLED = "INTROSPECTION_DISABLED"

# As many as anybody reads; each costs the time to find it and the bytes to tell it.
MOST_ERRORS = 20
_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

# To tell where an error is, every line before it is counted: 64 KiB of empty ones would take seconds.
_MOST_LINES_TOLD = 2_000

# Python does not read integers of more than 4,300 digits, and no double has so many.
_LONGEST_NUMBER = 1_000

_INTROSPECTION = frozenset({"__schema", "__type"})
# Fields of the introspection whose answers are lists; lists within lists within lists are what takes long.
_TYPE_LISTS = frozenset({"types", "fields", "inputFields", "interfaces", "possibleTypes", "enumValues"})
_DEEPEST_TYPE_LISTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphQLLimits:
    """How much a GraphQL document may ask, each operation of it for itself, and how much it is told."""

    characters: int = 64 * 1024
    tokens: int = 400
    depth: int = 10
    fields: int = 200
    root_fields: int = 10
    aliases: int = 15
    directives: int = 20
    introspection: bool = True
    suggestions: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "GraphQLLimits":
        return cls(
            characters=settings.graphql_body_limit,
            tokens=settings.graphql_tokens,
            depth=settings.graphql_depth,
            fields=settings.graphql_fields,
            root_fields=settings.graphql_root_fields,
            aliases=settings.graphql_aliases,
            directives=settings.graphql_directives,
            introspection=settings.has_introspection,
            suggestions=settings.has_suggestions,
        )

    def parse_options(self, text: str) -> dict[str, Any]:
        """Return the options by which graphql-core's parser refuses a text that is too much to read."""
        return {
            "max_source_length": self.characters,
            "max_lexical_tokens": self.tokens,
            "max_comments": self.tokens,
            "no_location": text.count("\n") + text.count("\r") > _MOST_LINES_TOLD,
        }

    def broken_by_parser(self, error: GraphQLError) -> tuple[str, int] | None:
        """Return name and value of the limit that the parser found broken, if it was one."""
        sentences = {
            f"Syntax Error: Document contains more than {self.tokens} tokens.": ("tokens", self.tokens),
            f"Syntax Error: Document contains more than {self.tokens} comments.": ("comments", self.tokens),
            f"Syntax Error: Source contains more than {self.characters} code points.": ("characters", self.characters),
        }
        return next((limit for sentence, limit in sentences.items() if error.message.startswith(sentence)), None)


def problems_of(document: DocumentNode, schema: GraphQLSchema, limits: GraphQLLimits) -> list[GraphQLError]:
    """Return the limits that a document breaks, one error for each; where there are none, what is not valid in it."""
    return broken_limits(document, limits) or validate(
        schema, document, _RULES, max_errors=MOST_ERRORS, hide_suggestions=not limits.suggestions
    )


def broken_limits(document: DocumentNode, limits: GraphQLLimits) -> list[GraphQLError]:
    """Return an error for each limit that an operation of a document breaks, fragments included.

    The time that this takes grows with the document's text, not with what its fragments unfold to.
    """
    asked = _most_asked(document)
    problems = [
        limit_error(name, allowed, f"{sentence} at most {allowed} {unit}.")
        for name, allowed, found, sentence, unit in (
            ("depth", limits.depth, asked.depth, "Selections should be nested", "levels deep"),
            ("fields", limits.fields, asked.fields, "An operation should select", "fields"),
            ("rootFields", limits.root_fields, asked.root_fields, "An operation should select", "fields of its root"),
            ("aliases", limits.aliases, asked.aliases, "An operation should have", "aliases"),
            ("directives", limits.directives, asked.directives, "An operation should have", "directives"),
        )
        if found > allowed
    ]
    if asked.introspects:
        problems += _introspection_problems(asked, limits)
    if any(len(number.value) > _LONGEST_NUMBER for number in _numbers(document)):
        message = f"A number should have at most {_LONGEST_NUMBER} digits."
        problems.append(limit_error("digits", _LONGEST_NUMBER, message))
    return problems


def limit_error(name: str, allowed: int, message: str) -> GraphQLError:
    """Say that a limit is broken, to people by a sentence and to programs by its name and value."""
    return GraphQLError(message, extensions={"code": LIMIT_EXCEEDED, "limit": name, "allowed": allowed})


def _introspection_problems(asked: "_Asked", limits: GraphQLLimits) -> list[GraphQLError]:
    if not limits.introspection:
        message = "This service does not tell its schema: __schema and __type are not served, __typename is."
        return [GraphQLError(message, extensions={"code": INTROSPECTION_DISABLED})]
    problems = []
    if asked.type_lists > _DEEPEST_TYPE_LISTS:
        message = f"Introspection should nest at most {_DEEPEST_TYPE_LISTS} lists, such as fields within types."
        problems.append(limit_error("introspectionDepth", _DEEPEST_TYPE_LISTS, message))
    if asked.type_aliases:
        problems.append(limit_error("introspectionAliases", 0, "Introspection should have no aliases."))
    return problems


class _Spread(NamedTuple):
    """A fragment and the place where it is spread."""

    name: str
    depth: int
    type_lists: int
    is_introspection: bool


@dataclass(slots=True)
class _Asked:
    """What an operation or a fragment asks for.

    What lies within `__schema` and `__type` is not counted among depth, fields and aliases, but apart, by `type_lists`,
    how deep lists are nested there, and `type_aliases`. Of a fragment nobody knows where it will be spread: what it
    would be within introspection is `own_type_lists`.
    """

    depth: int = 0
    fields: int = 0
    root_fields: int = 0
    aliases: int = 0
    directives: int = 0
    introspects: bool = False
    type_lists: int = 0
    type_aliases: int = 0
    own_type_lists: int = 0
    spreads: list[_Spread] = field(default_factory=list)
    is_begun: bool = False
    is_complete: bool = False

    def add_field(self, node: FieldNode, depth: int, type_lists: int, *, is_introspection: bool) -> None:
        begins_introspection = node.name.value in _INTROSPECTION
        self.introspects |= begins_introspection
        # Of `__type` several may be asked; `__schema` is the same each time.
        is_costly = is_introspection or node.name.value == "__schema"
        if node.alias:
            self.type_aliases += is_costly
            self.aliases += not is_costly
        if is_introspection:
            self.type_lists = max(self.type_lists, type_lists)
            return
        self.own_type_lists = max(self.own_type_lists, type_lists)
        self.depth = max(self.depth, depth)
        self.fields += 1
        self.root_fields += depth == 1

    def add_fragment(self, fragment: "_Asked", spread: _Spread) -> None:
        self.directives += fragment.directives
        self.introspects |= fragment.introspects
        self.type_lists = max(self.type_lists, fragment.type_lists)
        self.type_aliases += fragment.type_aliases
        type_lists = spread.type_lists + fragment.own_type_lists
        if spread.is_introspection:
            self.type_lists = max(self.type_lists, type_lists)
            self.type_aliases += fragment.aliases
            return
        self.own_type_lists = max(self.own_type_lists, type_lists)
        self.depth = max(self.depth, spread.depth + fragment.depth)
        self.fields += fragment.fields
        self.root_fields += fragment.root_fields if spread.depth == 0 else 0
        self.aliases += fragment.aliases


def _most_asked(document: DocumentNode) -> _Asked:
    """Return, of each thing, what that operation asks which asks most of it.

    A fragment that no operation reaches counts as one: the validation would go through it before it says so.
    """
    operations: list[_Asked] = []
    defined: list[_Asked] = []
    fragments: dict[str, _Asked] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            operations.append(_asked_by(definition))
        elif isinstance(definition, FragmentDefinitionNode):
            fragments[definition.name.value] = asked = _asked_by(definition)
            defined.append(asked)
    for operation in operations:
        _complete(operation, fragments)
    unreached = [fragment for fragment in defined if not fragment.is_begun]
    for fragment in unreached:
        _complete(fragment, fragments)
        # Whether it would be spread at a root nobody knows.
        fragment.root_fields = 0
    return reduce(_larger, (*operations, *unreached), _Asked())


def _larger(one: _Asked, other: _Asked) -> _Asked:
    return _Asked(
        depth=max(one.depth, other.depth),
        fields=max(one.fields, other.fields),
        root_fields=max(one.root_fields, other.root_fields),
        aliases=max(one.aliases, other.aliases),
        directives=max(one.directives, other.directives),
        introspects=one.introspects or other.introspects,
        type_lists=max(one.type_lists, other.type_lists),
        type_aliases=max(one.type_aliases, other.type_aliases),
    )


def _asked_by(definition: OperationDefinitionNode | FragmentDefinitionNode) -> _Asked:
    """Return what a definition itself asks for, without its fragments; without recursion, as it may be nested deep."""
    asked = _Asked(directives=len(definition.directives or ()))
    for variable in definition.variable_definitions or ():
        asked.directives += len(variable.directives or ())
    waiting: list[tuple[SelectionSetNode, int, int, bool]] = [(definition.selection_set, 0, 0, False)]
    while waiting:
        selection_set, depth, type_lists, is_introspection = waiting.pop()
        for selection in selection_set.selections:
            asked.directives += len(selection.directives or ())
            if isinstance(selection, FieldNode):
                name = selection.name.value
                lists = type_lists + (name in _TYPE_LISTS)
                asked.add_field(selection, depth + 1, lists, is_introspection=is_introspection)
                if selection.selection_set:
                    begins = not is_introspection and name in _INTROSPECTION
                    inner = (0, True) if begins else (lists, is_introspection)
                    waiting.append((selection.selection_set, depth + 1, *inner))
            elif isinstance(selection, InlineFragmentNode):
                waiting.append((selection.selection_set, depth, type_lists, is_introspection))
            elif isinstance(selection, FragmentSpreadNode):
                asked.spreads.append(_Spread(selection.name.value, depth, type_lists, is_introspection))
    return asked


def _complete(asked: _Asked, fragments: Mapping[str, _Asked]) -> None:
    """Add what fragments ask for, each of which is completed once; a cycle of them is left to the validation."""
    waiting = [(asked, False)]
    while waiting:
        current, are_fragments_complete = waiting.pop()
        if are_fragments_complete:
            for spread in current.spreads:
                fragment = fragments.get(spread.name)
                if fragment is not None and fragment.is_complete:
                    current.add_fragment(fragment, spread)
            current.is_complete = True
        elif not current.is_begun:
            current.is_begun = True
            waiting.append((current, True))
            waiting += ((fragments[spread.name], False) for spread in current.spreads if spread.name in fragments)


def _numbers(document: DocumentNode) -> Iterable[IntValueNode | FloatValueNode]:
    waiting: list[Node] = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, IntValueNode | FloatValueNode):
            yield node
        for key in node.keys:
            value: Node | Sequence[Node] | str | None = getattr(node, key, None)
            if isinstance(value, Node):
                waiting.append(value)
            elif isinstance(value, tuple):
                waiting += value
