"""What a guard is asked while tests run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Guard:
    """One that watches over tests; what it does not do at some moment stays as it is here."""

    name: str

    def start(self) -> None:
        """Begin to watch: tests are about to run."""

    def stop(self) -> None:
        """Watch no longer: no more tests will run."""

    def enter(self, item: pytest.Item, *, is_guarded: bool) -> None:
        """Take notice of the test that begins, before any of its fixtures is set up."""

    def begin(self) -> None:
        """Look at how things are before the test's own fixtures are set up, after those that outlive it."""

    def call(self) -> None:
        """Take notice that the fixtures are set up and the test itself is about to run."""

    def end(self, request: pytest.FixtureRequest) -> Iterable[str]:  # noqa: ARG002 - others look at it
        """Tell what the test left behind, after its own fixtures were torn down."""
        return ()

    def happened(self) -> Iterable[str]:
        """Tell, once, what happened since this was asked last."""
        return ()

    @contextmanager
    def outliving(self) -> Iterator[None]:
        """Take notice of what is done in this context for more tests than one."""
        yield

    def keep(self, fixture: pytest.FixtureDef[object], value: object) -> None:
        """Take notice of a fixture that was set up, and outlives the test."""

    def drop(self, fixture: pytest.FixtureDef[object]) -> None:
        """Take notice that a fixture was torn down."""


def replace(owner: Any, name: str, by: Any) -> Callable[[], None]:  # noqa: ANN401 - whatever a guard looks into
    """Replace an attribute of a class, and return what puts the former one back."""
    former = getattr(owner, name)
    setattr(owner, name, by)
    return lambda: setattr(owner, name, former)
