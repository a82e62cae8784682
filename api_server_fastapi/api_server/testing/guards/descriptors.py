"""Whether file descriptors are open after a test that were not open before it."""

import asyncio
import gc
import os
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FunctionType, ModuleType
from typing import Any

import pytest

from api_server.testing.guards.guard import Guard

_FOLDERS = ("/proc/self/fd", "/dev/fd")
# What others of this process may be about to close.
_LOOKS, _BETWEEN_LOOKS_S = 4, 0.05
# Opened once by who needs them, and kept for the life of the process.
_KEPT_FILES = {"/dev/null", "/dev/random", "/dev/urandom"}
_MULTIPROCESSING_HEAP = "pym"
_KEPT_BY_MULTIPROCESSING = (
    ("multiprocessing.resource_tracker", "_resource_tracker", ("_fd",)),
    ("multiprocessing.forkserver", "_forkserver", ("_forkserver_alive_fd",)),
)
_OBJECTS_LOOKED_AT = 100_000
_LEAD_EVERYWHERE = (
    type,
    ModuleType,
    asyncio.AbstractEventLoop,
    pytest.Collector,
    pytest.Config,
    pytest.FixtureDef,
    pytest.FixtureRequest,
    pytest.Item,
)


class DescriptorsGuard(Guard):
    """Compares what is open after a test with what was open before it.

    What is opened for a fixture that outlives the test, or belongs to the value of one, is not the test's.
    """

    name = "descriptors"

    def __init__(self) -> None:
        self._folder = next((folder for folder in _FOLDERS if os.path.isdir(folder)), None)  # noqa: PTH112 - asked once
        self._before: set[tuple[int, str]] = set()
        self._kept: dict[pytest.FixtureDef[object], object] = {}

    def begin(self) -> None:
        self._before = self._open()

    def end(self, request: pytest.FixtureRequest) -> Iterable[str]:  # noqa: ARG002 - what every guard is asked
        if left := self._left():
            shown = "\n".join(f"  {number}: {_described(number, target)}" for number, target in sorted(left))
            yield f"Descriptors were left open:\n{shown}"

    @contextmanager
    def outliving(self) -> Iterator[None]:
        before = self._open()
        try:
            yield
        finally:
            self._before |= self._open() - before

    def keep(self, fixture: pytest.FixtureDef[object], value: object) -> None:
        self._kept[fixture] = value

    def drop(self, fixture: pytest.FixtureDef[object]) -> None:
        self._kept.pop(fixture, None)

    def _left(self) -> set[tuple[int, str]]:
        left = self._open() - self._before
        for look in range(_LOOKS):
            if not left:
                return left
            if look == 0:
                gc.collect()
            else:
                time.sleep(_BETWEEN_LOOKS_S)
            left &= self._open()
        kept = _kept_by_multiprocessing() | set(_descriptors_in(list(self._kept.values())))
        return {(number, target) for number, target in left if number not in kept}

    def _open(self) -> set[tuple[int, str]]:
        if self._folder is None:
            return set()
        found = set()
        for name in os.listdir(self._folder):  # noqa: PTH208 - names, at every test
            try:
                target = _target(self._folder, int(name))
            except OSError:
                continue  # of the listing itself, or closed meanwhile by another thread
            if target not in _KEPT_FILES and f"/{_MULTIPROCESSING_HEAP}-{os.getpid()}-" not in target:
                found.add((int(name), target))
        return found


def _target(folder: str, number: int) -> str:
    """Tell what is behind a descriptor, in words where the system has them."""
    if folder == "/proc/self/fd":
        return os.readlink(f"{folder}/{number}")  # noqa: PTH115 - what it says is mostly no path
    found = os.fstat(number)
    return f"device {found.st_dev} inode {found.st_ino}"


def _described(number: int, target: str) -> str:
    """Name what is open: a path, or both ends of a socket."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return target
    with socket.socket(fileno=os.dup(number)) as found:
        here = _address(found.getsockname())
        try:
            return f"socket {here} -> {_address(found.getpeername())}"
        except OSError:
            return f"socket {here}"


def _address(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"{host}:{port}"
        case "" | b"":
            return "unnamed"
    return str(address)


def _kept_by_multiprocessing() -> set[int]:
    found = set()
    for module, singleton, attributes in _KEPT_BY_MULTIPROCESSING:
        keeper = getattr(sys.modules.get(module), singleton, None)
        found |= {number for name in attributes if isinstance(number := getattr(keeper, name, None), int)}
    return found


def _descriptors_in(values: list[object]) -> Iterator[int]:
    """Yield the descriptors of what can be reached from some values.

    A client of the session opens its connections when a test first needs them, and keeps them for the others.
    """
    seen: set[int] = set()
    waiting = list(values)
    while waiting and len(seen) < _OBJECTS_LOOKED_AT:
        found = waiting.pop()
        if id(found) in seen or _leads_everywhere(found):
            continue
        seen.add(id(found))
        yield from _descriptors_of(found)
        waiting += _held_by(found)


def _leads_everywhere(found: object) -> bool:
    """Whether something holds, by its nature, what belongs to others."""
    return isinstance(found, _LEAD_EVERYWHERE)


def _held_by(found: object) -> list[Any]:
    if isinstance(found, FunctionType):
        # Not its globals.
        return [*(found.__closure__ or ()), *(found.__defaults__ or ())]
    return gc.get_referents(found)


def _descriptors_of(found: object) -> Iterator[int]:
    finalizer = getattr(sys.modules.get("multiprocessing.util"), "Finalize", None)
    if finalizer is not None and isinstance(found, finalizer):
        # A process of multiprocessing's has its pipes as numbers, and closes them by this.
        yield from (number for number in getattr(found, "_args", None) or () if isinstance(number, int))
    if callable(getattr(type(found), "fileno", None)):
        # Whatever it is, it may be closed, and says so in its own way.
        with suppress(Exception):
            yield found.fileno()  # type: ignore[attr-defined]  # looked at above
