"""Finds out how a handler is called: what of it takes the event, and which services it needs."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from api_server.event_bus.errors import HandlerRefusedError
from api_server.event_bus.event import BaseEvent

T = TypeVar("T")


class Services(Protocol):
    """Has the process's instance of each type that it contains."""

    def get(self, service_type: type[T], /) -> T: ...

    def __contains__(self, service_type: type, /) -> bool: ...


class HandlesEvents(Protocol):
    """An object that handles events by a method, a coroutine function or a plain one."""

    @property
    def handle(self) -> Callable[..., Any]: ...


Handler: TypeAlias = Callable[..., Any] | HandlesEvents


class RegisteredHandler:
    """A handler that suits its type of events. Raises HandlerRefusedError where it does not.

    `event_type` and its bases are what the handler may take; `services` has what else it takes.
    """

    def __init__(self, event_type: type[BaseEvent], handler: Handler, services: Services | None) -> None:
        self.event_type = event_type
        self.handler = handler
        self.name = name_of(handler)
        self._services = services
        called, parameters = self._what_is_called()
        self._check_event(called, parameters[:1])
        self._needs = self._needs_of(called, parameters[1:])
        self._construct: Callable[..., Any] | None = handler if isinstance(handler, type) else None
        self._constructor_needs = self._needs_of(handler, self._parameters(handler)) if self._construct else {}
        self._call = called
        self.is_async = _is(inspect.iscoroutinefunction, called)

    def is_same(self, handler: Handler) -> bool:
        """Whether this is that handler; a bound method is another object each time that it is asked for."""
        return handler is self.handler or (inspect.isroutine(handler) and handler == self.handler)

    def call_for(self, event: BaseEvent) -> Callable[[], object]:
        """Ask for the services that the handler needs now, and return what is left to call."""
        # A method of a class is only known of the instance.
        call = self._construct(**self._got(self._constructor_needs)).handle if self._construct else self._call
        return partial(call, event, **self._got(self._needs))

    def _got(self, needs: Mapping[str, type]) -> dict[str, object]:
        # What is needed was found in them.
        return {name: self._services.get(needed) for name, needed in needs.items()} if self._services else {}

    def _what_is_called(self) -> tuple[Callable[..., Any], list[inspect.Parameter]]:
        """Return what takes the event, and its parameters but for `self`."""
        handler = self.handler
        # Not what an object makes up when it is asked, as a mock does.
        handle = inspect.getattr_static(handler, "handle", None)
        is_class = isinstance(handler, type)
        if is_class and handle is None:
            raise self._refusal("it is a class without a method handle")
        if is_class and inspect.isabstract(handler):
            raise self._refusal("it is an abstract class")
        called: Any = handler if handle is None else handler.handle  # type: ignore[union-attr]  # it was found
        if not callable(called):
            raise self._refusal("it is no function, no class, and no object with a method handle")
        if _is(inspect.isgeneratorfunction, called) or _is(inspect.isasyncgenfunction, called):
            raise self._refusal("it is a generator, of which calling it runs nothing")
        parameters = self._parameters(called)
        return called, parameters[1:] if is_class and inspect.isfunction(handle) else parameters

    def _parameters(self, function: Any) -> list[inspect.Parameter]:  # noqa: ANN401 - whatever can be called
        try:
            return list(inspect.signature(function).parameters.values())
        # It is built in, or its annotations, which Python 3.14 evaluates here, are names that are not known.
        except (ValueError, NameError) as error:
            raise self._refusal(f"which parameters it has cannot be found out: {error}") from error

    def _check_event(self, function: object, first: Sequence[inspect.Parameter]) -> None:
        if not first or first[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise self._refusal("it takes no event, which is to be its first parameter")
        annotation = self._annotation(function, first[0])
        if not _accepts(annotation, self.event_type):
            raise self._refusal(
                f"its first parameter, {first[0].name}, is annotated with {_shown(annotation)}, and is to be the event"
            )

    def _needs_of(self, function: object, parameters: Sequence[inspect.Parameter]) -> dict[str, type]:
        """Return which service each of these parameters takes; one that may do without and has to is left out."""
        given = function.keywords if isinstance(function, partial) else {}
        found = ((p, self._need(function, p)) for p in parameters if p.name not in given)
        return {parameter.name: need for parameter, need in found if need is not None}

    def _need(self, function: object, parameter: inspect.Parameter) -> type | None:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            return None
        has_default = parameter.default is not inspect.Parameter.empty
        if parameter.annotation is inspect.Parameter.empty and not has_default:
            raise self._refusal(f"its parameter {parameter.name} has no annotation that says which service it takes")
        annotation = self._annotation(function, parameter)
        services = self._services
        need = next((wanted for wanted in _wanted(annotation) if services is not None and wanted in services), None)
        if need is None and not has_default:
            where = "is not registered as a service" if services is not None else "it would get from services: none are"
            raise self._refusal(f"its parameter {parameter.name} takes {_shown(annotation)}, which {where}")
        if need is not None and parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise self._refusal(f"its parameter {parameter.name} cannot be given by its name")
        return need

    def _annotation(self, function: object, parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - it may be anything
        """Return what a parameter is annotated with, strings evaluated where they were written; Any for nothing."""
        if parameter.annotation is inspect.Parameter.empty:
            return Any
        # Of this parameter alone: the others, and what is returned, may be names that only a type checker knows.
        written = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            return get_type_hints(written, globalns=_namespace(function))[parameter.name]
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise self._refusal(
                f"the annotation of its parameter {parameter.name} is not understood: {error}"
            ) from error

    def _refusal(self, reason: str) -> HandlerRefusedError:
        return HandlerRefusedError(self.name, self.event_type.__name__, reason)


def name_of(handler: object) -> str:
    """Return the whole name of a function, method or class, or of an object's class."""
    if isinstance(handler, partial):
        return name_of(handler.func)
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    module: str | None = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)


def _is(kind: Callable[[object], bool], function: object) -> bool:
    """Whether a function, or what an object does when it is called, is of a kind."""
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - what it is, not whether


def _accepts(annotation: object, event_type: type[BaseEvent]) -> bool:
    """Whether a parameter with this annotation takes such events, as far as that can be known."""
    if get_origin(annotation) in (Union, UnionType):
        return any(_accepts(member, event_type) for member in get_args(annotation))
    # Any is a class, of which nothing is an instance.
    if annotation is Any or not isinstance(annotation, type):
        return True
    try:
        return issubclass(event_type, annotation)
    except TypeError:  # a protocol that only a type checker can tell
        return True


def _wanted(annotation: Any) -> Iterator[type]:  # noqa: ANN401 - it may be anything
    """Yield the types of services that suit an annotation: itself, and the members of a union."""
    yield annotation
    if get_origin(annotation) in (Union, UnionType):
        yield from (member for member in get_args(annotation) if member is not NoneType)


def _namespace(function: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever can be called
    """Return the names that were known where the annotations of a function's parameters were written."""
    if isinstance(function, partial):
        return _namespace(function.func)
    if isinstance(function, type):
        initialize = inspect.getattr_static(function, "__init__")
        return _namespace(initialize if inspect.isfunction(initialize) else function.__new__)
    function = inspect.unwrap(function)
    written = function if hasattr(function, "__globals__") else type(function).__call__
    namespace: dict[str, Any] = getattr(written, "__globals__", {})
    return namespace


def _shown(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
