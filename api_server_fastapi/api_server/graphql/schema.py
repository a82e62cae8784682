"""Merges parts into one schema and gives every error of it a code."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import strawberry
import structlog
from graphql import DocumentNode, GraphQLError, GraphQLSyntaxError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.tools import merge_types
from strawberry.types import ExecutionContext, ExecutionResult, StreamExecutionResult
from strawberry.types.base import get_object_definition
from strawberry.types.graphql import OperationType
from strawberry.utils.str_converters import to_camel_case

from api_server.exceptions import CodedError, FieldError, FieldsError, RetryableError
from api_server.graphql.columns import COLUMNS
from api_server.graphql.context import OperationScope
from api_server.graphql.documents import DocumentCache, ValidDocuments
from api_server.graphql.guard import LIMIT_EXCEEDED, GraphQLLimits, problems_of
from api_server.graphql.live import ClientTooSlowError
from api_server.graphql.measured import MeasuredOperation
from api_server.graphql.part import GraphQLPart
from api_server.graphql.traced import TracedOperation
from api_server.graphql.turns import InTurn, Turns
from api_server.telemetry import is_tracing
from api_server.validation import FieldProblem

_MOST_PROBLEMS = 50
_DOCUMENT = "document."

_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
_TOLD_BY_GRAPHQL = frozenset({_PARSE_FAILED, _VALIDATION_FAILED})
_LONGEST_MESSAGE = 500
_MOST_LOCATIONS = 10

log = structlog.get_logger("api_server.graphql")


class CodedErrorSchema(strawberry.Schema):
    """A schema whose errors carry `extensions.code`, and whose unexpected errors are masked.

    `visible_errors` are the exception classes that clients may see, each with a `code`.
    """

    def __init__(
        self,
        query: type,
        mutation: type | None,
        subscription: type | None,
        *,
        extensions: Sequence[type[SchemaExtension]],
        visible_errors: Iterable[type[Exception]],
        limits: GraphQLLimits,
    ) -> None:
        super().__init__(
            query,
            mutation,
            subscription,
            extensions=extensions,
            config=StrawberryConfig(auto_camel_case=True, scalar_map=COLUMNS),
            execution_context_class=_Execution if limits.suggestions else _DiscreetExecution,
        )
        # Strawberry's own resolver raises for each type that wraps another one, and each would be logged.
        self._schema.type_map["__Type"].fields["isOneOf"].resolve = _is_one_of  # type: ignore[attr-defined] # an object
        self._visible_errors = tuple(visible_errors)
        self.limits = limits
        self.documents = ValidDocuments()
        self.turns = Turns()

    def problems_of(self, document: DocumentNode) -> list[GraphQLError]:
        """Return what keeps a document from being executed, without executing any of it."""
        return problems_of(document, self._schema, self.limits)

    def create_extensions_runner(
        self, execution_context: ExecutionContext, extensions: list[SchemaExtension]
    ) -> SchemaExtensionsRunner:
        return _ExtensionsRunner(execution_context, extensions)

    async def execute(  # noqa: PLR0917 - the base class' signature
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,  # noqa: ANN401 - see above
        root_value: Any | None = None,  # noqa: ANN401 - see above
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Execute what has one result; a subscription has many, and is served by a stream."""
        allowed = [kind for kind in allowed_operation_types or OperationType if kind is not OperationType.SUBSCRIPTION]
        try:
            return await super().execute(
                query, variable_values, context_value, root_value, operation_name, allowed, operation_extensions
            )
        except CannotGetOperationTypeError as error:
            # The answer repeats the name.
            raise CannotGetOperationTypeError(operation_name and _shortened(str(operation_name))) from error

    def process_errors(
        self,
        errors: list[GraphQLError],
        execution_context: ExecutionContext | None = None,  # noqa: ARG002 - the base class' signature
    ) -> None:
        """Every error passes here before it is sent, whichever the transport and the phase."""
        for error in errors:
            if error.extensions and "code" in error.extensions:
                continue
            error.extensions = self._extensions(error)
            if error.extensions["code"] in _TOLD_BY_GRAPHQL:
                _shorten(error)

    def _extensions(self, error: GraphQLError) -> dict[str, object]:
        cause = error.original_error
        while isinstance(cause, GraphQLError):
            cause = cause.original_error
        if isinstance(error, GraphQLSyntaxError):
            return self._of_syntax(error)
        if cause is None:
            # Raised by graphql-core itself: in execution it concerns the values given, else the document.
            return {"code": _VALIDATION_FAILED}
        if refusal := _refusal(cause):
            code, error.message = refusal
            return {"code": code}
        if isinstance(cause, self._visible_errors) and isinstance(cause, CodedError):
            return _told(error, cause)
        error_id = uuid4().hex
        log.error("operation failed", error_id=error_id, path=error.path, exc_info=cause)
        error.message = "Something went wrong; the log has it under this id."
        return {"code": "INTERNAL_SERVER_ERROR", "errorId": error_id}

    def _of_syntax(self, error: GraphQLSyntaxError) -> dict[str, object]:
        if broken := self.limits.broken_by_parser(error):
            name, allowed = broken
            error.message = f"A document should have at most {allowed} {name}."
            return {"code": LIMIT_EXCEEDED, "limit": name, "allowed": allowed}
        return {"code": _PARSE_FAILED}


def _shorten(error: GraphQLError) -> None:
    """Keep an error of graphql-core's from repeating all that a client wrote, and each place where it did."""
    error.message = _shortened(error.message)
    error.locations = error.locations and error.locations[:_MOST_LOCATIONS]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def _told(error: GraphQLError, cause: CodedError) -> dict[str, object]:
    """Return what clients are told of an error of the product's own, whose message becomes that of `error`."""
    extensions: dict[str, object] = {"code": cause.code}
    if problems := _problems(cause):
        error.message = "; ".join(f"{problem['field']} {problem['rule']}" for problem in problems)
        extensions |= problems[0]
    if isinstance(cause, FieldsError):
        extensions["errors"] = problems
    if isinstance(cause, RetryableError):
        extensions["retryAfter"] = cause.retry_after_s
    return extensions


def _problems(cause: CodedError) -> Sequence[FieldProblem]:
    """Return what an error says of fields, as many as are worth reading, spelled as this schema spells them."""
    match cause:
        case FieldsError():
            problems = cause.problems[:_MOST_PROBLEMS]
        case FieldError():
            problems = [{"field": cause.field, "rule": cause.rule}]
        case _:
            problems = []
    return [{"field": _spelled(problem["field"]), "rule": problem["rule"]} for problem in problems]


def _spelled(path: str) -> str:
    """Spell a path as the schema does; what stands in a document of JSON is spelled as there."""
    return path if path.startswith(_DOCUMENT) else to_camel_case(path)


def _refusal(cause: Exception) -> tuple[str, str] | None:
    """Return code and message where an operation does not even begin."""
    match cause:
        case MissingQueryError():
            return _PARSE_FAILED, "The operation has no query."
        case CannotGetOperationTypeError():
            return "OPERATION_NOT_FOUND", "The document has no operation of this name."
        case InvalidOperationTypeError():
            return "OPERATION_NOT_ALLOWED", f"A {cause.operation_type.value} is not served this way."
        case _:
            return None


def _is_one_of(kind: object, _info: object) -> bool:
    definition = getattr(kind, "extensions", {}).get("strawberry-definition")
    return bool(getattr(definition, "is_one_of", False))


class _Execution(StrawberryGraphQLCoreExecutionContext):
    """Executes each event of a subscription without holding anything of those before."""

    def build_per_event_executor(self, payload: Any) -> Any:  # noqa: ANN401 - the base class' signature
        executor = super().build_per_event_executor(payload)
        # graphql-core copies itself for each event, and with it a reference to one memo, keyed by lists that every
        # event makes anew: it would grow for as long as the subscription lasts.
        executor._relevant_sub_fields = {}  # noqa: SLF001 - see above
        return executor


class _DiscreetExecution(_Execution):
    """Does not tell, where a value has no place in the schema, which names in the schema resemble it."""

    @classmethod
    def build(cls, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the base class' signature
        return super().build(*arguments, **{**options, "hide_suggestions": True})


class _ExtensionsRunner(SchemaExtensionsRunner):
    """Asks extensions about each message of a stream only where one of them has something to say about it."""

    def __init__(self, execution_context: ExecutionContext, extensions: list[SchemaExtension]) -> None:
        super().__init__(execution_context, extensions)
        self._sees_results = any(
            type(extension).on_stream_result is not SchemaExtension.on_stream_result for extension in extensions
        )
        self._adds_results = any(
            type(extension).get_results is not SchemaExtension.get_results for extension in extensions
        )

    def on_stream_result(self, result: StreamExecutionResult) -> Any:  # noqa: ANN401 - a context of either kind
        return super().on_stream_result(result) if self._sees_results else nullcontext()

    async def get_extensions_results(self, ctx: ExecutionContext) -> dict[str, Any]:
        return await super().get_extensions_results(ctx) if self._adds_results else ctx.extensions_results


def build_schema(
    parts: Sequence[GraphQLPart], visible_errors: Iterable[type[Exception]], limits: GraphQLLimits | None = None
) -> CodedErrorSchema:
    """Merge the parts, and refuse documents beyond the limits, by default those of the settings' defaults.

    Raises ValueError where two of the parts define the same root field.
    """
    query = _merged("Query", [part.query for part in parts if part.query])
    if query is None:
        raise ValueError("A GraphQL schema needs a query; none of the parts has one.")
    return CodedErrorSchema(
        query,
        _merged("Mutation", [part.mutation for part in parts if part.mutation]),
        _merged("Subscription", [part.subscription for part in parts if part.subscription]),
        extensions=[
            InTurn,
            *_traced(),
            MeasuredOperation,
            OperationScope,
            DocumentCache,
            *(extension for part in parts for extension in part.extensions),
        ],
        visible_errors=(*visible_errors, ClientTooSlowError),
        limits=limits or GraphQLLimits(),
    )


def _traced() -> list[type[SchemaExtension]]:
    return [TracedOperation] if is_tracing() else []


def _merged(name: str, types: Sequence[type]) -> type | None:
    if not types:
        return None
    fields = Counter(field.name for kind in types for field in get_object_definition(kind, strict=True).fields)
    if clashes := sorted(field for field, count in fields.items() if count > 1):
        raise ValueError(f"{name} fields defined by more than one part: {', '.join(clashes)}")
    return merge_types(name, tuple(types))
