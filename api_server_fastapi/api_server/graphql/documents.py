"""Documents that are asked again and again are parsed, measured and validated once, and held once."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from graphql import DocumentNode
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import ParseOptions

if TYPE_CHECKING:
    from api_server.graphql.schema import CodedErrorSchema

# What strangers can make this hold: a document takes some hundred times its text.
_MOST_ASKED_ONCE = 32
_MOST_ASKED_AGAIN = 96
_LONGEST_TEXT = 2048


class ValidDocuments:
    """The valid documents of one schema that were asked last, by their text.

    Those that were asked more than once make room for each other only: nobody drives them out with documents of which
    each is another one.
    """

    def __init__(self) -> None:
        self._once: OrderedDict[str, DocumentNode] = OrderedDict()
        self._again: OrderedDict[str, DocumentNode] = OrderedDict()
        self.hits = 0
        """How often a document was found here, since the start."""
        self.misses = 0
        """How often a document had to be worked on."""

    def get(self, text: str | None) -> DocumentNode | None:
        document = self._again.pop(text or "", None) or self._once.pop(text or "", None)
        if document is None:
            self.misses += 1
            return None
        self.hits += 1
        self._again[text or ""] = document
        if len(self._again) > _MOST_ASKED_AGAIN:
            self.keep(*self._again.popitem(last=False))
        return document

    def keep(self, text: str | None, document: DocumentNode) -> None:
        if text and len(text) <= _LONGEST_TEXT:
            self._once[text] = document
            if len(self._once) > _MOST_ASKED_ONCE:
                self._once.popitem(last=False)


class DocumentCache(SchemaExtension):
    """Has each document parsed within the limits, measured and validated, unless it was found valid before."""

    _is_valid = False

    @property
    def _schema(self) -> "CodedErrorSchema":
        return cast("CodedErrorSchema", self.execution_context.schema)

    def on_parse(self) -> Iterator[None]:
        execution = self.execution_context
        document = self._schema.documents.get(execution.query)
        if document is not None:
            self._is_valid = True
            execution.graphql_document = document
        else:
            # Strawberry names only one of the options that it passes on.
            execution.parse_options = cast("ParseOptions", self._schema.limits.parse_options(execution.query or ""))
        yield

    def on_validate(self) -> Iterator[None]:
        execution = self.execution_context
        document = execution.graphql_document
        assert document is not None, "what cannot be parsed is not validated"
        # Strawberry validates only where nothing is known of errors yet.
        execution.pre_execution_errors = [] if self._is_valid else self._schema.problems_of(document)
        yield
        if not self._is_valid and not execution.pre_execution_errors:
            self._schema.documents.keep(execution.query, document)
