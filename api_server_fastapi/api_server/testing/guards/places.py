"""Places in the source, as messages name them."""

import asyncio
import linecache
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType

STANDARD_LIBRARY = sysconfig.get_path("stdlib")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the source that was, or is, being executed."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        return f"{shown(self.file, self.line)} in {self.function}" + (f": {text}" if text else "")


def place_of(frame: FrameType) -> Place:
    """Return where a frame is; the frame itself would keep its variables alive."""
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def frames(innermost: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that called it."""
    while innermost is not None:
        yield innermost
        innermost = innermost.f_back


def outside(places: Iterable[FrameType], *folders: str) -> Iterator[FrameType]:
    """Leave out what lies in these folders."""
    return (frame for frame in places if not frame.f_code.co_filename.startswith(folders))


def folder_of(module: ModuleType) -> str:
    """Return the folder of a package, as the names of its files begin."""
    return str(Path(module.__file__ or "").parent) + os.sep


ASYNCIO = folder_of(asyncio)


def where(code: CodeType) -> str:
    """Name where a function is defined."""
    return shown(code.co_filename, code.co_firstlineno)


def shown(file: str, line: int) -> str:
    """Name a line of a file, relative to the current folder where the file lies in it."""
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"


def named_task(task: "asyncio.Task[object]") -> str:
    """Name a task, its coroutine and where that is defined."""
    coroutine = task.get_coro()
    return f"task {task.get_name()!r}, {named_coroutine(coroutine)}"


def named_coroutine(coroutine: object) -> str:
    """Name a coroutine, or whatever else a task runs, and where it is defined."""
    code = code_of(coroutine)
    name = getattr(coroutine, "__qualname__", None) or repr(coroutine)
    return f"{name} ({where(code)})" if code else str(name)


def code_of(running: object) -> CodeType | None:
    """Return the code of a coroutine, a generator or a function, if it has one."""
    for attribute in ("cr_code", "ag_code", "gi_code", "__code__"):
        if (code := getattr(running, attribute, None)) is not None:
            return code if isinstance(code, CodeType) else None
    return None
