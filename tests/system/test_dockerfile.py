"""The images: what the Dockerfile and the guide say, and what the steps make when they are executed."""

import argparse
import json
import re
import shlex
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from api_server.testing import ServiceProcess
from dockerfile import image_of, parse
from dockerignore import sent_files
from locks import pins
from plain_image import Container, PlainBuild
from raw_server import answering
from sequencer_process import ROOT

FILE = "throttling_sequencer_fastapi/Dockerfile"
DOCKERFILE = parse((ROOT / FILE).read_text())
IMAGES = {target: image_of(DOCKERFILE.lineage(target)) for target in ("dev", "prod")}
PROJECT = tomllib.loads((ROOT / "throttling_sequencer_fastapi" / "pyproject.toml").read_text())["project"]
DEVELOPMENT = ROOT / "configuration" / "docker" / "local_development.env"

ASKED_FOR = """
docker build --target dev -t throttling_seq:local_dev -f throttling_sequencer_fastapi/Dockerfile .
docker run -it -p 8080:8080 \\
  --env-file configuration/docker/local_development.env \\
  --rm throttling_seq:local_dev
docker run -it --rm throttling_seq:local_dev /bin/bash
docker build --target prod -t throttling_seq:local_prod -f throttling_sequencer_fastapi/Dockerfile .
docker run -p 8080:8080 throttling_seq:local_prod
"""
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*_fastapi/README.md")), *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTED = "\n".join(text for page in PAGES for text in FENCE.findall(page.read_text()))


def docker_calls(text: str) -> list[argparse.Namespace]:
    """Read calls of docker, by as many of its options as are documented here."""
    lines = re.findall(r"^docker ((?:build|run) .*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [docker().parse_args(shlex.split(line, comments=True)) for line in lines]


def docker() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build")
    for option in ("--target", "-t", "-f"):
        build.add_argument(option, required=True)
    build.add_argument("context")
    run = commands.add_parser("run")
    for flag in ("-i", "-t", "--rm", "--read-only"):
        run.add_argument(flag, action="store_true")
    for option in ("-p", "-v", "-e", "--env-file", "--add-host"):
        run.add_argument(option, action="append", default=[])
    run.add_argument("image")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


@pytest.mark.parametrize("text", [ASKED_FOR, DOCUMENTED], ids=["asked for", "documented"])
class TestCommands:
    def test_images_are_built_from_the_root(self, text: str) -> None:
        builds = [call for call in docker_calls(text) if call.command == "build"]
        assert {call.target for call in builds} == {"dev", "prod"}
        assert {(call.f, call.context) for call in builds} == {(FILE, ".")}

    def test_what_is_run_was_built_and_what_it_is_given_exists(self, text: str) -> None:
        calls = docker_calls(text)
        for call in [call for call in calls if call.command == "run"]:
            assert call.image in {other.t for other in calls if other.command == "build"}
            assert all((ROOT / file).is_file() for file in call.env_file)
            assert all(port.endswith(f":{IMAGES['prod'].port}") for port in call.p)
            for mounted in call.v:
                here, there, *_ = mounted.removeprefix("$PWD/").split(":")
                assert (ROOT / here).is_dir()
                assert there == f"/src/{here}"


def test_each_image_comes_from_a_named_release_and_hashed_files() -> None:
    assert "latest" not in (ROOT / FILE).read_text()
    steps = [step for stage in DOCKERFILE.stages.values() for step in stage.steps]
    assert not {step.name for step in steps} & {"ADD", "ENTRYPOINT", "ONBUILD"}
    parts = [part for step in steps if step.name == "RUN" for part in step.text.split("&&")]
    installs = [part for part in parts if re.search(r"\bpip\b.* (install|wheel) ", part)]
    assert len(installs) == 6
    for part in installs:
        assert "--no-deps" in part
        assert "--no-index" in part or "--require-hashes --only-binary :all:" in part


@pytest.mark.parametrize("target", IMAGES)
class TestWhatAnImageSays:
    def test_it_runs_as_somebody_without_a_name_or_rights(self, target: str) -> None:
        user, _, group = IMAGES[target].user.partition(":")
        assert int(user) > 999
        assert int(group) > 999

    def test_it_listens_where_a_container_is_reached(self, target: str) -> None:
        image = IMAGES[target]
        assert image.environment["UVICORN_HOST"] == "0.0.0.0"
        assert (image.environment["UVICORN_PORT"], image.port) == ("8080", "8080")

    def test_it_serves_the_sequencer(self, target: str) -> None:
        image = IMAGES[target]
        assert image.command == ("api-server",)
        assert image.environment["API_SERVER_APP"] == "throttling_sequencer.app:SEQUENCER"

    def test_it_ends_before_docker_stop_kills(self, target: str) -> None:
        image = IMAGES[target]
        assert image.stop_signal == "SIGTERM"
        assert int(image.environment["API_SERVER_LEAVE_WITHIN_S"]) < 10

    def test_it_says_what_it_is(self, target: str) -> None:
        keys = {"title": "name", "description": "description", "version": "version"}
        declared = {f"org.opencontainers.image.{label}": PROJECT[key] for label, key in keys.items()}
        assert IMAGES[target].labels == declared

    def test_python_writes_lines_at_once_and_bytecode_never(self, target: str) -> None:
        environment = IMAGES[target].environment
        assert (environment["PYTHONUNBUFFERED"], environment["PYTHONDONTWRITEBYTECODE"]) == ("1", "1")


def test_one_image_is_production_and_the_other_reloads() -> None:
    assert IMAGES["prod"].environment["ENV_TYPE"] == "production"
    assert "UVICORN_RELOAD" not in IMAGES["prod"].environment
    assert "ENV_TYPE" not in IMAGES["dev"].environment
    assert IMAGES["dev"].environment["UVICORN_RELOAD"] == "true"


def test_the_context_is_what_the_steps_copy() -> None:
    sent = sent_files(ROOT)
    copies = [step for step in DOCKERFILE.lineage("builder") if step.name == "COPY"]
    copied = [word for step in copies for word in step.words({})[:-1]]
    for package in ("api_server_fastapi/api_server", "throttling_sequencer_fastapi/throttling_sequencer"):
        assert {source.relative_to(ROOT) for source in (ROOT / package).rglob("*.py")} <= {Path(file) for file in sent}
    for file in sent:
        assert any(file.is_relative_to(source) for source in copied), file
        assert not {"tests", "__pycache__", ".venv", ".git"} & set(file.parts)
    assert sum((ROOT / file).stat().st_size for file in sent) < 1_500_000


@pytest.fixture(scope="module")
def build() -> Iterator[PlainBuild]:
    with PlainBuild(DOCKERFILE, ROOT) as build:
        yield build


@pytest.fixture
def prod(build: PlainBuild) -> Iterator[Container]:
    with build.container("prod", read_only=True) as container:
        yield container


@pytest.fixture
def dev(build: PlainBuild) -> Iterator[Container]:
    with build.container("dev") as container:
        yield container


Serve = Callable[..., tuple[ServiceProcess, httpx2.Client]]


@pytest.fixture
def serve(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Iterator[Serve]:
    """Give a function that runs a container by its own command."""
    running: list[tuple[ServiceProcess, httpx2.Client]] = []

    def start(container: Container, **environment: str) -> tuple[ServiceProcess, httpx2.Client]:
        port = environment.setdefault("UVICORN_PORT", str(unused_tcp_port_factory()))
        service = container.start(tmp_path / f"container-{port}.log", **environment)
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        running.append((service, client))
        service.wait_until_it_answers(f"{client.base_url}/livez")
        return service, client

    yield start
    for service, client in running:
        client.close()
        service.stop()


PLAN = "/api/v1/throttle/calculate_throttle_steps"


@pytest.mark.slow
class TestProduction:
    """From a folder that nobody may write to, without an env file, a database or an identity provider."""

    def test_it_serves_with_nothing_around_it(self, prod: Container, serve: Serve, game_state: dict[str, Any]) -> None:
        service, client = serve(prod)
        report = client.get("/readyz")
        assert (report.status_code, report.json()["state"]) == (200, "degraded")
        refused = client.post(PLAN, json=game_state)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "Traceback" not in service.log

    def test_it_listens_on_every_address(self, prod: Container, serve: Serve) -> None:
        service, client = serve(prod)
        sockets = psutil.Process(service.process.pid).net_connections("tcp")
        listening = {one.laddr for one in sockets if one.status == psutil.CONN_LISTEN}
        assert listening == {("0.0.0.0", client.base_url.port)}

    def test_its_stop_signal_ends_it_in_good_order(self, prod: Container, serve: Serve) -> None:
        service, _ = serve(prod)
        service.send(signal.Signals[prod.image.stop_signal])
        assert service.wait(10) == 0
        assert "Finished server process" in service.log

    def test_it_plans_and_writes_nothing(self, prod: Container, serve: Serve, game_state: dict[str, Any]) -> None:
        before = files_of(prod.root)
        service, client = serve(prod, ENV_TYPE="development")
        assert len(client.post(PLAN, json=game_state).json()) == 100
        assert service.stop() == 0
        assert files_of(prod.root) == before

    def test_its_health_check_says_whether_it_is_ready(self, prod: Container, serve: Serve) -> None:
        service, client = serve(prod)
        port = str(client.base_url.port)
        assert prod.run(*prod.image.health_check, UVICORN_PORT=port).returncode == 0
        service.stop()
        assert prod.run(*prod.image.health_check, UVICORN_PORT=port).returncode == 1

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"])
    def test_its_health_check_fails_before_it_is_killed(self, prod: Container, answer: bytes) -> None:
        with answering([answer]) as port:
            started = time.monotonic()
            done = prod.run(*prod.image.health_check, UVICORN_PORT=str(port))
            took = time.monotonic() - started
        assert done.returncode == 1
        assert took < int(prod.image.health_check_flags["timeout"].removesuffix("s"))

    def test_it_holds_both_distributions_and_what_they_run_with(self, prod: Container) -> None:
        program = (
            "import json; from importlib.metadata import distributions as found\n"
            "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in found()}))"
        )
        held = json.loads(prod.run("python", "-c", program).stdout)
        assert held.pop("api-server")
        assert held.pop("throttling-sequencer") == PROJECT["version"]
        locked = pins("prod")
        assert {name: locked[name].version for name in held} == held
        assert held.keys() >= {name for name, pin in locked.items() if pin.marker is None}

    def test_it_holds_neither_sources_nor_tools(self, prod: Container) -> None:
        assert list(prod.path(prod.image.folder).iterdir()) == []
        assert not prod.path("/src").exists()
        assert prod.run("python", "-c", "import pip").returncode == 1

    def test_everything_is_compiled_for_good(self, prod: Container) -> None:
        for library in (prod.path("/opt/venv/lib"), prod.path("/usr/local/lib")):
            sources = {(file.parent, file.stem) for file in library.rglob("*.py")}
            compiled = {(file.parents[1], file.name.split(".")[0]): file for file in library.rglob("*.pyc")}
            assert sources
            assert sources - compiled.keys() == set()
            # Each of them is valid by a hash of its source that is not computed again.
            assert {file.read_bytes()[4:8] for file in compiled.values()} == {b"\1\0\0\0"}


def files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    return {file: (status.st_mtime_ns, status.st_size) for file in folder.rglob("*") if (status := file.lstat())}


@pytest.mark.slow
class TestDevelopment:
    def test_a_change_of_either_distribution_is_served(
        self, dev: Container, serve: Serve, no_database: dict[str, str]
    ) -> None:
        lines = [line for line in DEVELOPMENT.read_text().splitlines() if line and not line.startswith("#")]
        given = dict(line.split("=", 1) for line in lines)
        del given["UVICORN_PORT"]
        service, client = serve(dev, **{**given, **no_database})
        for package in ("api_server", "throttling_sequencer"):
            with dev.path(f"/src/{package}_fastapi/{package}/__init__.py").open("a") as source:
                source.write(f'\nprint("{package} has changed")\n')
            service.wait_until_it_writes(f"{package} has changed")
            assert client.get("/version").json()["name"] == "throttling_sequencer"
        assert service.stop() == 0

    def test_its_sources_are_not_compiled(self, dev: Container) -> None:
        assert list(dev.path("/src/throttling_sequencer_fastapi").rglob("*.pyc")) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", IMAGES)
def test_bash_as_the_command_is_a_shell(build: PlainBuild, target: str) -> None:
    with build.container(target) as container:
        done = container.run("/bin/bash", "-c", "command -v python api-server throttling-sequencer")
        programs = ("python", "api-server", "throttling-sequencer")
        assert done.stdout.split() == [str(container.path("/opt/venv/bin") / program) for program in programs]
