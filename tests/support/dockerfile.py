"""What a Dockerfile says, as far as this repository uses its language."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Template

_KNOWN = {"CMD", "COPY", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER", "WORKDIR"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, with its continuation lines joined."""

    name: str
    flags: Mapping[str, str]
    text: str

    def words(self, variables: Mapping[str, str]) -> list[str]:
        return shlex.split(Template(self.text).substitute(variables))

    def pairs(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return what ARG, ENV and LABEL set; all of it sees the variables as they were before."""
        split = (word.partition("=") for word in self.words(variables))
        return {name: value for name, _, value in split}

    @property
    def command(self) -> tuple[str, ...]:
        """The program that is started without a shell; raises ValueError for the form that starts one."""
        return tuple(json.loads(self.text.removeprefix("CMD ")))


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and the instructions that follow it."""

    base: str
    steps: list[Instruction]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The stages by name."""

    stages: Mapping[str, Stage]

    def lineage(self, target: str) -> list[Instruction]:
        """Return every instruction that makes a stage what it is, those of its ancestors first."""
        if target not in self.stages:
            return []
        stage = self.stages[target]
        return [*self.lineage(stage.base), *stage.steps]


@dataclass(frozen=True, slots=True)
class Image:
    """How containers of an image run."""

    environment: Mapping[str, str]
    labels: Mapping[str, str]
    folder: PurePosixPath
    user: str
    port: str
    stop_signal: str
    command: tuple[str, ...]
    health_check: tuple[str, ...]
    health_check_flags: Mapping[str, str]


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile all of whose stages have names; raises ValueError for what it would misread."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    steps: list[Instruction] = []
    for step in _instructions(text):
        if step.name == "FROM":
            base, _, name = step.words(arguments)
            steps = []
            stages[name] = Stage(base, steps)
        elif step.name == "ARG" and not stages:
            arguments |= step.pairs({})
        elif step.name in _KNOWN and stages:
            steps.append(step)
        else:
            raise ValueError(f"{step.name} is not understood here")
    return Dockerfile(stages)


def image_of(steps: Sequence[Instruction]) -> Image:
    """Return what these instructions make of Python's official image."""
    environment = {"PATH": "/usr/local/bin"}
    labels: dict[str, str] = {}
    folder = PurePosixPath("/")
    for step in steps:
        if step.name == "ENV":
            environment |= step.pairs(environment)
        elif step.name == "LABEL":
            labels |= step.pairs(environment)
        elif step.name == "WORKDIR":
            folder /= step.text
    last = {step.name: step for step in steps}
    text = {name: step.text for name, step in last.items()}
    return Image(
        environment=environment,
        labels=labels,
        folder=folder,
        user=text.get("USER", "root"),
        port=text.get("EXPOSE", ""),
        stop_signal=text.get("STOPSIGNAL", "SIGTERM"),
        command=last["CMD"].command if "CMD" in last else ("python3",),
        health_check=last["HEALTHCHECK"].command if "HEALTHCHECK" in last else (),
        health_check_flags=last["HEALTHCHECK"].flags if "HEALTHCHECK" in last else {},
    )


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        found = re.fullmatch(r"([A-Z]+) ((?:--\S+ )*)(.*)", line)
        if found is None or "<<" in line:
            raise ValueError(f"neither lower-case instructions nor here-documents are understood here: {line}")
        name, flags, rest = found.groups()
        pairs = (flag.removeprefix("--").partition("=") for flag in flags.split())
        yield Instruction(name, {flag: value for flag, _, value in pairs}, rest)
