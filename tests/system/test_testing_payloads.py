"""The scripts of testing_payloads, run as somebody runs them: from another folder, in a path with a space."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from api_server.testing import clean_environment
from canned_server import canned
from raw_server import answering
from sequencer_process import ROOT, Sequencer, running_sequencer
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

REST, GRAPHQL, SOCKET, POLLER = "http_api_curl.sh", "gql_curl.sh", "gql_websocket.py", "graphql_api_poller.sh"
SCRIPTS = [REST, GRAPHQL, SOCKET, POLLER]
TRANSPORT, LEGACY = "graphql-transport-ws", "graphql-ws"

REPEATABLE = {"SEQUENCER_GENERATIONS": "2", "SEQUENCER_POPULATION_SIZE": "60", "SEQUENCER_TIMEOUT_MS": "60000"}
STEP_MS = 5
GOAL = re.compile(r"goal (\d+) after (\d+) ms: throttle (\d+) towards 5000.0, 0.0")


@dataclass(frozen=True)
class Payloads:
    """A copy of the folder, and how to run what it holds."""

    folder: Path
    elsewhere: Path
    url: str

    def command(self, script: str, *arguments: str | Path) -> list[str | Path]:
        interpreter = [sys.executable] if script.endswith(".py") else []
        return [*interpreter, self.folder / script, *arguments]

    def environment(self, **values: str) -> dict[str, str]:
        own = {"THROTTLING_SEQUENCER_URL": self.url, "TMPDIR": str(self.elsewhere)}
        return clean_environment(**own | values)

    def run(self, script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *arguments),
            cwd=self.elsewhere,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(script, *arguments),
            cwd=self.elsewhere,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def write(self, name: str, text: str) -> Path:
        file = self.elsewhere / name
        file.write_text(text)
        return file


@pytest.fixture(scope="module")
def sequencer(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Sequencer]:
    folder = tmp_path_factory.mktemp("sequencer")
    # What is repeatable may take a minute, and so promises one.
    lane = {"SEQUENCER_LANE_WORKERS": "1", "SEQUENCER_LANE_WAITING_MS": "600000"}
    pace = {"SEQUENCER_STEP_INTERVAL_MS": str(STEP_MS), **lane}
    variables = {"SEQUENCER_PERSISTENCE": "memory", **REPEATABLE, **pace}
    with running_sequencer(folder, unused_tcp_port_factory(), **variables) as sequencer:
        yield sequencer


@pytest.fixture
def payloads(sequencer: Sequencer, tmp_path: Path) -> Payloads:
    elsewhere = tmp_path / "some where"
    elsewhere.mkdir()
    folder = shutil.copytree(ROOT / "testing_payloads", tmp_path / "the payloads")
    return Payloads(folder, elsewhere, sequencer.url)


def camel(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"playerUnits": state["player_units"], "enemyUnits": state["enemy_units"]}


@pytest.mark.parametrize("script", SCRIPTS)
class TestEach:
    def test_it_tells_what_it_can(self, script: str, payloads: Payloads) -> None:
        done = payloads.run(script, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.lower().startswith(f"usage: {script} ")
        source = (payloads.folder / script).read_text()
        cases = re.findall(r"^ {8}(--[a-z| -]+)\)|add_argument\(\s*\"(--[a-z]+)", source, re.MULTILINE)
        options = {option for case in cases for option in "".join(case).split(" | ")}
        assert options >= {"--url", "--token"}
        assert {option for option in options if option not in done.stdout} == set()

    @pytest.mark.parametrize("wrong", [["--nonsense"], ["--url"], ["--url", ""], ["/not/here.json"]])
    def test_a_wrong_call_is_an_error_of_its_own(self, script: str, wrong: list[str], payloads: Payloads) -> None:
        done = payloads.run(script, *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert script in done.stderr

    def test_a_server_that_is_away_is_told(self, script: str, payloads: Payloads, unused_tcp_port: int) -> None:
        done = payloads.run(script, "--url", f"http://127.0.0.1:{unused_tcp_port}")
        assert done.returncode == 1
        assert str(unused_tcp_port) in done.stderr
        assert "Traceback" not in done.stderr


class TestRest:
    def test_it_prints_what_it_asks_and_the_answers(self, payloads: Payloads) -> None:
        done = payloads.run(REST)
        assert (done.returncode, done.stderr) == (0, "")
        asked, answers = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
        state = payloads.folder / "game_state.json"
        assert asked == [
            f"GET {payloads.url}/livez",
            f"GET {payloads.url}/readyz",
            f"GET {payloads.url}/version",
            f"POST {payloads.url}/api/v1/throttle/calculate_throttle_steps < {state}",
        ]
        assert [answer[:4] for answer in answers] == ["200 "] * 4
        alive, ready, version, plan = (json.loads(answer[4:]) for answer in answers)
        assert alive == {"status": "alive"}
        assert ready["state"] == "operational"
        assert version["name"] == "throttling_sequencer"
        assert len(plan) == 100

    def test_an_answer_that_is_not_2xx_is_told_and_the_others_are_shown(self, payloads: Payloads) -> None:
        done = payloads.run(REST, payloads.write("bad.json", '{"player_units": []}'))
        assert done.returncode == 1
        path = "/api/v1/throttle/calculate_throttle_steps"
        assert done.stderr == f"http_api_curl.sh: not 2xx: POST {path} (422)\n"
        assert "enemy_units is required" in done.stdout
        assert '200 {"name":"throttling_sequencer"' in done.stdout

    def test_every_answer_counts(self, payloads: Payloads) -> None:
        done = payloads.run(REST, "--token", "?!")
        assert done.returncode == 1
        path = "/api/v1/throttle/calculate_throttle_steps"
        assert done.stderr == f"http_api_curl.sh: not 2xx: GET /version (401), POST {path} (401)\n"


@pytest.mark.parametrize(
    ("script", "option"),
    [(REST, "--user"), (REST, "--token"), (GRAPHQL, "--user"), (GRAPHQL, "--token"), (POLLER, "--token")],
)
def test_who_asks_may_be_said(script: str, option: str, payloads: Payloads, sequencer: Sequencer) -> None:
    who = f"{script}.{option.removeprefix('--')}"
    done = payloads.run(script, option, who, "--url", sequencer.url)
    assert (done.returncode, done.stderr) == (0, "")
    sequencer.service.wait_until_it_writes(f'"user_id": "{who}"')


class TestGraphQL:
    def test_by_default_it_is_a_plan(self, payloads: Payloads) -> None:
        done = payloads.run(GRAPHQL)
        assert (done.returncode, done.stderr) == (0, "")
        goals = json.loads(done.stdout)["data"]["calculateThrottleSteps"]
        assert {(goal["coordinate"]["x"], goal["coordinate"]["y"]) for goal in goals} == {(5000, 0)}
        assert len(goals) == 100

    def test_keys_are_put_in_camel_case_wherever_they_stand(
        self, payloads: Payloads, game_state: dict[str, Any]
    ) -> None:
        spread = json.dumps(game_state, indent=1).replace('"player_units":', '"player_units"\n\t:\r\n')
        for text in (json.dumps(game_state), spread, json.dumps(camel(game_state))):
            body = json.loads(payloads.run(GRAPHQL, "--print-body", payloads.write("state.json", text)).stdout)
            assert body["variables"] == {"gameStateInput": camel(game_state)}

    def test_strings_stay_as_they_are(self, payloads: Payloads) -> None:
        state = {"note": ["player_units", '"player_units": ', "é\\"], "player_units": 1}
        body = payloads.run(GRAPHQL, "--print-body", payloads.write("state.json", json.dumps(state))).stdout
        assert json.loads(body)["variables"]["gameStateInput"] == {"note": state["note"], "playerUnits": 1}

    def test_a_query_of_one_s_own_arrives_as_written(self, payloads: Payloads) -> None:
        query = '# "quotes", \\ and\ttabs\n\n{\n  a: version { name } # é\r\n}'
        body = json.loads(payloads.run(GRAPHQL, "--query", query, "--print-body").stdout)
        assert body["query"] == query
        done = payloads.run(GRAPHQL, "--query", query)
        assert json.loads(done.stdout) == {"data": {"a": {"name": "throttling_sequencer"}}}

    def test_a_query_of_one_s_own_may_use_the_game_state(self, payloads: Payloads) -> None:
        query = "query($gameStateInput: GameStateInputType!) { errors: calculateThrottleSteps("
        done = payloads.run(GRAPHQL, "--query", query + "gameStateInput: $gameStateInput) { throttle } }")
        assert done.returncode == 0
        assert len(json.loads(done.stdout)["data"]["errors"]) == 100

    @pytest.mark.parametrize("how", [[], ["--subscribe"]])
    def test_graphql_errors_are_shown_and_told(self, how: list[str], payloads: Payloads) -> None:
        done = payloads.run(GRAPHQL, *how, payloads.write("bad.json", '{"player_units": []}'))
        assert (done.returncode, done.stderr) == (1, "gql_curl.sh: the answer has GraphQL errors\n")
        assert "required field 'enemyUnits'" in done.stdout

    def test_a_status_that_is_not_2xx_is_told(self, payloads: Payloads) -> None:
        done = payloads.run(GRAPHQL, "--url", f"{payloads.url}/not/here")
        assert done.returncode == 1
        assert done.stderr == f"gql_curl.sh: the answer to POST {payloads.url}/not/here/graphql was 404\n"
        assert '"status": 404' in done.stdout

    def test_live_goals_are_shown_until_they_are_complete(self, payloads: Payloads) -> None:
        done = payloads.run(GRAPHQL, "--subscribe")
        assert (done.returncode, done.stderr) == (0, "")
        *events, complete, _ = done.stdout.split("\n\n")
        assert len(events) == 100
        assert all(event.startswith('event: next\ndata: {"data":{"generateSteps":') for event in events)
        assert complete == "event: complete\ndata: "

    def test_live_goals_are_shown_as_they_come(self, payloads: Payloads) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        with (
            answering([head, b"event: next\r\ndata: {}\r\n\r\n"]) as port,
            payloads.start(GRAPHQL, "--subscribe", "--url", f"http://127.0.0.1:{port}") as process,
        ):
            end = threading.Timer(5, os.killpg, (process.pid, signal.SIGINT))
            end.start()
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["event: next\n", "data: {}\n"]
            assert end.is_alive()
            end.cancel()
            os.killpg(process.pid, signal.SIGINT)

    @pytest.mark.parametrize(
        ("missing", "why"),
        [(0, "the events ended without being complete\n"), (9, "no whole answer to POST")],
        ids=["without their end", "within one"],
    )
    def test_events_that_end_too_early_are_told(self, missing: int, why: str, payloads: Payloads) -> None:
        event = b'event: next\r\ndata: {"data":{"generateSteps":{"throttle":1}}}\r\n\r\n'
        with canned(event, "text/event-stream", missing=missing) as server:
            done = payloads.run(GRAPHQL, "--subscribe", "--url", server.url)
        assert done.returncode == 1
        assert f"gql_curl.sh: {why}" in done.stderr
        assert done.stdout.startswith("event: next\n")


class TestSocket:
    @pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
    def test_each_goal_is_printed_with_the_time_since_the_one_before(
        self, protocol: str, payloads: Payloads, sequencer: Sequencer, game_state: dict[str, Any]
    ) -> None:
        started = time.monotonic()
        done = payloads.run(SOCKET, "--protocol", protocol, "--seed", "5")
        took = time.monotonic() - started
        assert (done.returncode, done.stderr) == (0, "")
        *lines, end = done.stdout.splitlines()
        assert end == "complete: 100 goals"
        goals = [tuple(map(int, found.groups())) for line in lines if (found := GOAL.fullmatch(line))]
        assert [number for number, _, _ in goals] == list(range(1, 101))
        plan = sequencer.plan(game_state, seed=5).json()
        assert [throttle for _, _, throttle in goals] == [goal["throttle"] for goal in plan]
        assert 0.5 * 99 * STEP_MS <= sum(waited for _, waited, _ in goals) <= took * 1000

    @pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
    def test_ctrl_c_ends_it_at_once(self, protocol: str, payloads: Payloads) -> None:
        process = payloads.start(SOCKET, "--protocol", protocol)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("goal 1 ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=5)
        assert (process.returncode, errors) == (130, "")

    @pytest.mark.parametrize(("protocol", "item", "stop"), [(TRANSPORT, "next", "complete"), (LEGACY, "data", "stop")])
    def test_on_ctrl_c_the_server_is_told(self, protocol: str, item: str, stop: str, payloads: Payloads) -> None:
        goal = {"coordinate": {"x": 1, "y": 2}, "throttle": 3}
        with GraphQLDouble(protocol, {"id": "1", "type": item, "payload": {"data": {"generateSteps": goal}}}) as server:
            process = payloads.start(
                SOCKET, "--protocol", protocol, "--url", server.url, "--token", "me", "--seed", "7"
            )
            assert process.stdout is not None
            assert re.fullmatch(r"goal 1 after \d+ ms: throttle 3 towards 1, 2\n", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=5)
        assert server.heard[0] == {"type": "connection_init", "payload": {"Authorization": "Bearer me"}}
        assert server.heard[1]["payload"]["variables"]["seed"] == 7
        assert server.heard[2:] == [{"type": stop, "id": "1"}, 1000]

    @pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
    def test_graphql_errors_are_told(self, protocol: str, payloads: Payloads) -> None:
        done = payloads.run(SOCKET, "--protocol", protocol, payloads.write("bad.json", '{"player_units": []}'))
        assert (done.returncode, done.stdout) == (1, "")
        assert "required field 'enemyUnits'" in done.stderr
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("protocol", [TRANSPORT, LEGACY])
    def test_an_identity_that_is_refused_is_told(self, protocol: str, payloads: Payloads) -> None:
        done = payloads.run(SOCKET, "--protocol", protocol, "--token", "?!")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search("4403|UNAUTHENTICATED", done.stderr)
        assert done.stderr.count("\n") == 1

    def test_a_server_that_does_not_speak_graphql_is_told(self, payloads: Payloads) -> None:
        with GraphQLDouble(None, {}) as speaking_nothing, answering([b"220 mail\r\n"]) as mail:
            for url, why in (
                (f"{payloads.url}/not/here", "server rejected WebSocket connection: HTTP 403"),
                (speaking_nothing.url, "it does not speak graphql-transport-ws"),
                (f"http://127.0.0.1:{mail}", "did not receive a valid HTTP response"),
            ):
                done = payloads.run(SOCKET, "--url", url)
                assert (done.returncode, done.stdout) == (1, "")
                assert f"/graphql does not give goals: {why}" in done.stderr
                assert done.stderr.count("\n") == 1

    def test_without_its_library_it_says_what_to_do(self, payloads: Payloads) -> None:
        command: list[str | Path] = [sys.executable, "-S", payloads.folder / SOCKET]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("There is no module websockets for ")
        assert "make setup" in done.stderr

    def test_who_reads_may_have_enough(self, payloads: Payloads) -> None:
        with payloads.start(SOCKET) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(timeout=5) == 1
            assert process.stderr is not None
            assert process.stderr.read() == ""


class GraphQLDouble:
    """A WebSocket server that acknowledges, sends one message to whom asks, and keeps what it hears."""

    def __init__(self, protocol: str | None, message: dict[str, Any]) -> None:
        self.heard: list[Any] = []
        self._message = message
        spoken = [Subprotocol(protocol)] if protocol else None
        select = None if protocol else (lambda *_: None)
        self._server: Server = serve(self._answer, "127.0.0.1", 0, subprotocols=spoken, select_subprotocol=select)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _answer(self, socket: ServerConnection) -> None:
        try:
            self.heard.append(json.loads(socket.recv()))
            socket.send('{"type": "connection_ack"}')
            self.heard.append(json.loads(socket.recv()))
            socket.send(json.dumps(self._message))
            while True:
                self.heard.append(json.loads(socket.recv()))
        except ConnectionClosed as closed:
            self.heard.append(closed.rcvd.code if closed.rcvd else None)


@dataclass(frozen=True)
class Figures:
    requests: int
    errors: int
    p50: float
    p95: float
    max: float
    rate: float


def figures(printed: str) -> Figures:
    pattern = r"requests (\d+)\nerrors (\d+)\np50 (\S+) ms\np95 (\S+) ms\nmax (\S+) ms\n(\S+) requests per second\n"
    found = re.fullmatch(pattern, printed)
    assert found, printed
    requests, errors, *rest = found.groups()
    return Figures(int(requests), int(errors), *map(float, rest))


class TestPoller:
    def test_it_sends_what_it_says(self, payloads: Payloads, sequencer: Sequencer) -> None:
        done = payloads.run(POLLER, "--url", sequencer.url, "--token", "counted")
        assert (done.returncode, done.stderr) == (0, "")
        told = figures(done.stdout)
        served = durations(sequencer, "counted", told.requests)
        assert (told.requests, told.errors) == (len(served), 0) == (100, 0)
        assert served[49] / 2 <= told.p50 <= told.p95 <= told.max
        assert list(payloads.elsewhere.iterdir()) == []

    def test_its_figures_are_right(self, payloads: Payloads) -> None:
        with canned(b'{"data":{}}', delay=0.05) as server:
            started = time.monotonic()
            done = payloads.run(POLLER, "--url", server.url, "--requests", "30", "--concurrency", "3")
            took = time.monotonic() - started
        told = figures(done.stdout)
        assert server.asked == ['{"query":"{ version { name } }"}'] * 30
        assert server.most_at_once == 3
        assert 50 <= told.p50 <= told.p95 <= told.max <= took * 1000
        assert 30 / took <= told.rate <= 3 / 0.05

    def test_its_percentiles_are_those_of_the_answers(self, payloads: Payloads) -> None:
        """What curl says of answers that took 1 to 19 ms, slowest first."""
        lines = [f"200 0 0.{time:06} {time} " for time in range(19_000, 0, -1_000)]
        told = [*(f"echo '{line}' >&2; echo '{{\"data\":{{}}}}' >{line.split()[3]}" for line in lines), "exit 0"]
        curl = payloads.write("curl", "\n".join(["#!/bin/sh", *told]))
        curl.chmod(0o755)
        done = payloads.run(POLLER, PATH=f"{payloads.elsewhere}:{os.environ['PATH']}")
        assert done.returncode == 0
        assert done.stdout.startswith("requests 19 of 100\nerrors 0\np50 10.0 ms\np95 19.0 ms\nmax 19.0 ms\n")

    def test_a_plan_may_be_asked_for(self, payloads: Payloads, sequencer: Sequencer) -> None:
        done = payloads.run(POLLER, "--url", sequencer.url, "--plan", "--requests", "4")
        assert (figures(done.stdout).requests, figures(done.stdout).errors) == (4, 0)
        with canned(b'{"data":{}}') as server:
            payloads.run(POLLER, "--url", server.url, "--plan", "--requests", "1")
        assert "calculateThrottleSteps" in json.loads(server.asked[0])["query"]

    def test_each_error_counts(self, payloads: Payloads, sequencer: Sequencer, unused_tcp_port: int) -> None:
        (payloads.folder / "game_state.json").write_text('{"player_units": []}')
        with canned(b"<html>") as page:
            for arguments, why in (
                (["--url", f"http://127.0.0.1:{unused_tcp_port}"], "Failed to connect"),
                (["--url", f"{sequencer.url}/not/here"], "status 404"),
                (["--url", sequencer.url, "--token", "?!"], "status 401"),
                (["--url", sequencer.url, "--plan"], "required field 'enemyUnits'"),
                (["--url", page.url], "<html>"),
            ):
                done = payloads.run(POLLER, *arguments, "--requests", "7")
                assert done.returncode == 1
                assert re.match("requests 7\nerrors 7\n[0-9.]+ requests per second\n", done.stdout)
                assert done.stderr.count("\n") == 1
                assert why in done.stderr

    @pytest.mark.parametrize(("option", "limit"), [("--requests", 10_000), ("--concurrency", 64), ("--duration", 600)])
    def test_it_has_bounds(self, option: str, limit: int, payloads: Payloads) -> None:
        for value in ("0", str(limit + 1), "9" * 30, "-1", "1.5", "many"):
            done = payloads.run(POLLER, option, value)
            assert (done.returncode, done.stdout) == (2, "")
            assert f"{option} should be a whole number from 1 to {limit}" in done.stderr

    def test_it_ends_when_its_time_is_up(self, payloads: Payloads) -> None:
        with canned(b'{"data":{}}', delay=1.1) as server:
            started = time.monotonic()
            done = payloads.run(POLLER, "--url", server.url, "--duration", "2", "--concurrency", "3")
            assert 2 <= time.monotonic() - started < 4
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("requests 3 of 100\nerrors 0\np50 1")
        assert list(payloads.elsewhere.iterdir()) == []

    def test_no_answer_in_time_is_an_error(self, payloads: Payloads) -> None:
        with canned(b"", delay=30) as server:
            done = payloads.run(POLLER, "--url", server.url, "--duration", "1")
        assert done.returncode == 1
        assert done.stdout.startswith("requests 0 of 100\nerrors 0\n")

    @pytest.mark.parametrize("whom", ["the script", "everybody at the terminal"])
    def test_ctrl_c_leaves_nothing_behind(self, whom: str, payloads: Payloads) -> None:
        with canned(b"", delay=30) as server:
            process = payloads.start(POLLER, "--url", server.url, "--concurrency", "2")
            deadline = time.monotonic() + 5
            while len(server.asked) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            others = psutil.Process(process.pid).children(recursive=True)
            assert {one.name() for one in others} >= {"curl", "sleep"}
            send = process.send_signal if whom == "the script" else lambda one: os.killpg(process.pid, one)
            send(signal.SIGINT)
            assert process.wait(timeout=5) == 130
            assert not [one for one in others if one.is_running()]
            process.communicate()
        assert list(payloads.elsewhere.iterdir()) == []

    def test_no_variable_points_it_anywhere(self, payloads: Payloads) -> None:
        curl = payloads.write("curl", '#!/bin/sh\nfor last; do :; done\necho "$last" >"$OLDPWD/asked"\n')
        curl.chmod(0o755)
        payloads.run(POLLER, PATH=f"{payloads.elsewhere}:{os.environ['PATH']}", THROTTLING_SEQUENCER_URL="http://else")
        assert (payloads.elsewhere / "asked").read_text() == "http://127.0.0.1:8080/graphql#[1-100]\n"


def durations(sequencer: Sequencer, user_id: str, number: int) -> list[float]:
    """Wait until as many requests of a user are in the log, and return how long each took in ms, sorted."""
    deadline = time.monotonic() + 5
    while True:
        lines = [line for line in sequencer.server_log if line.get("user_id") == user_id]
        found = sorted(line["duration_ms"] for line in lines if line["event"] == "request answered")
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def test_each_script_can_be_started_by_its_name() -> None:
    for script in SCRIPTS:
        file = ROOT / "testing_payloads" / script
        assert os.access(file, os.X_OK)
        interpreter = "#!/usr/bin/env python3" if script.endswith(".py") else "#!/bin/sh"
        assert file.read_text().splitlines()[0] == interpreter
