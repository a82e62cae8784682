"""Documents that are asked again and again are parsed and validated once, and held once."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from graphql import DocumentNode
from strawberry.extensions import SchemaExtension

if TYPE_CHECKING:
    from api_server.graphql.schema import CodedErrorSchema

# What strangers can make this hold: a document takes some hundred times its text.
_MOST_DOCUMENTS = 128
_LONGEST_TEXT = 2048


class ValidDocuments:
    """The valid documents of one schema that were asked last, by their text."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, DocumentNode] = OrderedDict()

    def get(self, text: str | None) -> DocumentNode | None:
        document = self._documents.get(text or "")
        if document is not None:
            self._documents.move_to_end(text or "")
        return document

    def keep(self, text: str | None, document: DocumentNode) -> None:
        if text and len(text) <= _LONGEST_TEXT:
            self._documents[text] = document
            if len(self._documents) > _MOST_DOCUMENTS:
                self._documents.popitem(last=False)


class DocumentCache(SchemaExtension):
    """Spares a document that was found valid before its parsing and validation."""

    _is_valid = False

    @property
    def _known(self) -> ValidDocuments:
        return cast("CodedErrorSchema", self.execution_context.schema).documents

    def on_parse(self) -> Iterator[None]:
        document = self._known.get(self.execution_context.query)
        if document is not None:
            self._is_valid = True
            self.execution_context.graphql_document = document
        yield

    def on_validate(self) -> Iterator[None]:
        if self._is_valid:
            # Strawberry validates where nothing is known of errors yet.
            self.execution_context.pre_execution_errors = []
        yield
        document = self.execution_context.graphql_document
        if document is not None and not self.execution_context.pre_execution_errors:
            self._known.keep(self.execution_context.query, document)
