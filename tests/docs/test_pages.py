"""What the pages show is what happens: every command is run, every link followed."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from api_server.local.postgres import PostgresAddress
from api_server.testing import ServiceProcess, clean_environment, fresh_database
from pages import Block, anchors, blocks, links, pages
from piccolo_database import piccolo_environment
from sequencer_process import ROOT, Sequencer, running_sequencer

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]

INTERPRETERS = {"sh": ["sh", "-eu", "-c"], "python": [sys.executable, "-c"]}
SHOWN_ONLY = {"", "graphql", "json", "text"}
# What is run, or taken care of, elsewhere: because it makes the environment that this test runs in, is the test, needs
# an engine that this machine has not, or measures for minutes.
ELSEWHERE = {
    "make run": "tests/system/test_fresh_clone.py",
    "make setup": ".ci/run",
    "make check": ".ci/run",
    "make test": ".ci/run",
    "make test-all": ".ci/run",
    "make bench": "Makefile",
    "make demo-failover": "tests/failover/test_demo.py",
    "docker": "tests/system/test_dockerfile.py",
}
SERVER = re.compile(r"\.venv/bin/(api-server|python throttling_sequencer_fastapi/manage\.py)( |$)")


def written_in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def elsewhere(command: str) -> str | None:
    """Return the entry of the list under which a command is taken care of elsewhere."""
    return next((known for known in ELSEWHERE if f"{command} ".startswith(f"{known} ")), None)


def is_run_here(block: Block) -> bool:
    return block.language != "sh" or not any(map(elsewhere, block.commands))


HERE = [block for block in written_in(*INTERPRETERS) if is_run_here(block)]
SERVERS = [block for block in HERE if SERVER.match(block.text)]
SCRIPTS = [block for block in HERE if block not in SERVERS]


# What runs pytest, starts a lab, or serves more than once takes long.
SLOW_PAGES = {"failover-lab.md", "identity.md", "profiles.md", "testing.md"}


def marked(blocks: list[Block]) -> list[object]:
    """Make parameters of blocks, and leave those of some pages to the slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(one, id=str(one), marks=[slow] if one.page.name in SLOW_PAGES else []) for one in blocks]


@dataclass(frozen=True)
class Reader:
    """Somebody in a checkout beside a service that runs, as after `make run`."""

    sequencer: Sequencer
    variables: Mapping[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*command[:-1], command[-1].replace("127.0.0.1:8080", self.sequencer.url.removeprefix("http://"))],
            cwd=ROOT,
            env=clean_environment(**self.variables, THROTTLING_SEQUENCER_URL=self.sequencer.url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def database(postgres: PostgresAddress) -> Iterator[dict[str, str]]:
    with fresh_database(postgres) as address:
        yield piccolo_environment(address)


@pytest.fixture(scope="module")
def reader(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Reader]:
    variables = {**database, "SEQUENCER_STEP_INTERVAL_MS": "2"}
    arguments = ["--env-file", str(ROOT / "configuration" / "local_or_ide" / "local_development.env")]
    with running_sequencer(
        tmp_path_factory.mktemp("sequencer"), unused_tcp_port_factory(), *arguments, **variables
    ) as sequencer:
        yield Reader(sequencer, database)


def masked(text: str) -> str:
    """Leave out what differs from run to run: ids and numbers."""
    ids = r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"
    return re.sub(rf"{ids}|\d+(\.\d+)?", "0", text).strip()


@pytest.mark.parametrize("block", written_in("console"), ids=str)
def test_each_call_answers_as_shown(block: Block, reader: Reader) -> None:
    assert block.calls, "a console shows commands after a $"
    for command, shown in block.calls:
        assert masked(reader.run("sh", "-c", command)) == masked(shown), command


@pytest.mark.parametrize("block", marked(SCRIPTS))
def test_each_script_ends_well(block: Block, reader: Reader) -> None:
    reader.run(*INTERPRETERS[block.language], block.text)


@pytest.mark.parametrize("block", marked(SERVERS))
def test_each_server_serves(block: Block, database: dict[str, str], tmp_path: Path, unused_tcp_port: int) -> None:
    variables = clean_environment(**database, UVICORN_PORT=str(unused_tcp_port))
    service = ServiceProcess(["sh", "-c", f"exec {block.text}"], variables, tmp_path / "service.log", ROOT)
    try:
        assert service.wait_until_it_answers(f"http://127.0.0.1:{unused_tcp_port}/livez").status_code == 200
    finally:
        assert service.stop() == 0


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    named = {elsewhere(command) for block in written_in("sh") if block not in HERE for command in block.commands}
    # A command that is not listed makes None of it: it stands in a block that is not run because of another.
    assert named == ELSEWHERE.keys()
    for command, file in ELSEWHERE.items():
        assert set(re.findall(r"[\w-]+", (ROOT / file).read_text())) >= set(command.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_found(page: Path) -> None:
    fences = re.findall(r"^[ >\t]*(```|~~~)", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len([block for block in BLOCKS if block.page == page])


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_no_command_hides_in_a_block_that_is_not_run(block: Block) -> None:
    assert block.language in {"console", *INTERPRETERS, *SHOWN_ONLY}
    if block.language in SHOWN_ONLY:
        assert not re.search(r"^(\$|curl|docker|make|python|\.venv/|testing_payloads/)", block.text, re.MULTILINE)


LINKS = [(page, link) for page in PAGES for link in links(page)]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page.name}->{link}" for page, link in LINKS])
def test_every_link_leads_somewhere(page: Path, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize(
    "file", sorted({file for page in PAGES for file in re.findall(r"configuration/[\w./-]+", page.read_text())})
)
def test_every_env_file_that_is_named_exists(file: str) -> None:
    assert (ROOT / file).is_file()
