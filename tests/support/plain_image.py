"""Builds and runs what a Dockerfile describes in plain folders: without an engine, and without root."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from api_server.testing import ServiceProcess, clean_environment
from dockerfile import Dockerfile, Image, Instruction, image_of
from dockerignore import sent_files

# The machine's programs stand in for those of the base image.
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Container:
    """An image as it runs: in its own environment and folder, and as its user where that can be chosen."""

    image: Image
    root: Path

    def path(self, inside: str | PurePosixPath) -> Path:
        return self.root / PurePosixPath(inside).relative_to("/")

    @property
    def folder(self) -> Path:
        return self.path(self.image.folder)

    def mapped(self, text: str) -> str:
        """Put every absolute path of a command line or a variable under the root."""
        return re.sub(r"(?<![^\s=:\"'])/(?=\w)", f"{self.root}/", text)

    def environment(self, **values: str) -> dict[str, str]:
        own = {name: self.mapped(value) for name, value in self.image.environment.items()}
        return {**own, "PATH": f"{own['PATH']}:{_SYSTEM_PATH}", "HOME": "/", **values}

    def run(self, *command: str, **values: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._as_user(command),
            env=self.environment(**values),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def start(self, output: Path, **values: str) -> ServiceProcess:
        """Start the image's command."""
        return ServiceProcess(self._as_user(self.image.command), self.environment(**values), output, self.folder)

    def _as_user(self, command: Sequence[str]) -> list[str]:
        if os.geteuid() != 0:
            return list(command)
        user, _, group = self.image.user.partition(":")
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command]


class PlainBuild:
    """The stages of a Dockerfile as folders; a context manager that leaves nothing behind.

    Each stage is made, and later runs, under one path, as each image has one `/`: the paths that it writes into its
    files are valid in the stages that copy from it.
    """

    def __init__(self, dockerfile: Dockerfile, context: Path) -> None:
        self._dockerfile = dockerfile
        self._folder = Path(tempfile.mkdtemp(prefix="image-"))
        # The user of an image is not the one who builds it.
        self._folder.chmod(0o755)
        self._root = self._folder / "root"
        self._context = self._folder / "context"
        self._stages = self._folder / "stages"
        self._stages.mkdir()
        for file in sent_files(context):
            _copy_file(context / file, self._context / file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder)

    @contextmanager
    def container(self, target: str, *, read_only: bool = False) -> Iterator[Container]:
        """Give the one image that runs now, built if it was not."""
        self._stage(target).rename(self._root)
        try:
            _change_mode(self._root, "a-w,a+rX" if read_only else "a+rX")
            yield Container(image_of(self._dockerfile.lineage(target)), self._root)
        finally:
            _change_mode(self._root, "u+w")
            self._root.rename(self._stages / target)

    def _stage(self, target: str) -> Path:
        if not (self._stages / target).exists():
            self._build(target)
        return self._stages / target

    def _build(self, target: str) -> None:
        stage = self._dockerfile.stages[target]
        for step in stage.steps:
            if "from" in step.flags:
                self._stage(step.flags["from"])
        if stage.base in self._dockerfile.stages:
            shutil.copytree(self._stage(stage.base), self._root, symlinks=True)
        else:
            _make_python_image(self._root)
        done = self._dockerfile.lineage(stage.base)
        for step in stage.steps:
            self._execute(step, Container(image_of(done), self._root))
            done.append(step)
        self._root.rename(self._stages / target)

    def _execute(self, step: Instruction, here: Container) -> None:
        match step.name:
            case "RUN":
                self._run(step, here)
            case "COPY":
                self._copy(step, here)
            case "WORKDIR":
                here.path(here.image.folder / step.text).mkdir(parents=True, exist_ok=True)

    def _run(self, step: Instruction, here: Container) -> None:
        # Settings of the machine stay (certificates, package index); those of the person do not.
        machine = clean_environment(HOME=str(self._folder))
        kept = {name: value for name, value in machine.items() if not name.startswith(("VIRTUAL", "PYTHON"))}
        done = subprocess.run(
            ["/bin/sh", "-c", here.mapped(step.text)],
            env={**kept, **here.environment(HOME=str(self._folder))},
            cwd=here.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"

    def _copy(self, step: Instruction, here: Container) -> None:
        *sources, destination = step.words(here.image.environment)
        origin = self._stages / step.flags["from"] if "from" in step.flags else self._context
        target = here.path(here.image.folder / destination)
        for source in sources:
            copied = origin / source.lstrip("/")
            if copied.is_dir():
                shutil.copytree(copied, target, symlinks=True, dirs_exist_ok=True)
            else:
                _copy_file(copied, target / copied.name if destination.endswith("/") else target)


def _make_python_image(root: Path) -> None:
    """Make what stands for the official image: the machine's Python, and a library of one module."""
    program = root / "usr" / "local" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shutil.which("python3", path=_SYSTEM_PATH)} "$@"\n')
    program.chmod(0o755)
    module = root / "usr" / "local" / "lib" / "python3" / "module.py"
    module.parent.mkdir(parents=True)
    module.touch()


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _change_mode(root: Path, mode: str) -> None:
    subprocess.run(["chmod", "-R", mode, root], check=True)
