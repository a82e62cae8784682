"""`throttling-sequencer plan`: plans in a terminal, without a server and without a web framework."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from throttling_sequencer.cli import _print_table
from throttling_sequencer.domain.game import Coordinate, Unit
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import ScoreParts, ThrottlePlan
from throttling_sequencer.domain.unit_plan import Course

ROOT = Path(__file__).parents[3]
GAME_STATE = ROOT / "testing_payloads" / "game_state.json"


def run(*arguments: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    from api_server.testing import clean_environment

    command = [Path(sys.executable).with_name("throttling-sequencer"), *arguments]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=clean_environment(SEQUENCER_TIMEOUT_MS="50", **environment),
    )


def test_a_plan_is_a_table_with_its_score() -> None:
    done = run("plan", GAME_STATE)
    assert done.returncode == 0, done.stderr
    assert "remaining" in done.stdout
    assert "score 13.3" in done.stdout


@pytest.mark.parametrize(("lower_bound", "says"), [(None, ""), (13.3, "; at most 0.0500 above the best, by proof")])
def test_what_is_proven_stands_behind_the_score(
    capsys: pytest.CaptureFixture[str], lower_bound: float | None, says: str
) -> None:
    unit = Unit(Coordinate(0, 0), 0, 10, 0.01)
    plan = ThrottlePlan((300,), ScoreParts(13.0, 0.25, 0.05, 0.05), lower_bound=lower_bound)
    _print_table(Course(0, 0, unit, unit), plan, GeneticConfiguration())
    score = "score 13.3500 = distance 13.0000 + speed 0.2500 + length 0.0500 + nonzero 0.0500"
    assert capsys.readouterr().out.splitlines()[-1] == score + says


def test_json_is_what_the_rest_api_answers() -> None:
    done = run("plan", "--json", GAME_STATE)
    goals = json.loads(done.stdout)
    assert len(goals) == 100
    assert {tuple(goal) for goal in goals} == {("coordinate", "throttle")}
    assert goals[0]["coordinate"] == {"x": 5000, "y": 0}


def test_a_game_state_may_come_by_standard_input() -> None:
    done = run("plan", "-", "--json", stdin=GAME_STATE.read_text())
    assert len(json.loads(done.stdout)) == 100


def test_a_seed_makes_the_plan_repeatable() -> None:
    few = {"SEQUENCER_GENERATIONS": "2", "SEQUENCER_POPULATION_SIZE": "50"}
    plans = {run("plan", GAME_STATE, "--json", "--seed", "3", "--timeout-ms", "9000", **few).stdout for _ in range(2)}
    assert len(plans) == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["-"], "not json", "standard input should be valid JSON"),
        (["-"], "{}", "player_units is required"),
        (["-"], '{"player_units": [], "enemy_units": []}', "player_units should hold at least one unit"),
        (["/no/such/file"], "", "'/no/such/file' cannot be read: No such file or directory"),
        (["-", "--strategy", "magic"], GAME_STATE.read_text(), "strategy should be one of genetic, optimal, random"),
        (["/dev/null"], "", "'/dev/null' should be valid JSON"),
        ([""], "", "'' cannot be read: Is a directory"),
        (["-", "--seed", "-1"], GAME_STATE.read_text(), "seed should be a number from 0 to 2147483647"),
        (["-", "--timeout-ms", "0"], GAME_STATE.read_text(), "timeout_ms should be a number from 1 to 600000"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(arguments: list[str], stdin: str, says: str) -> None:
    done = run("plan", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_bad_variable_is_told_in_a_sentence() -> None:
    done = run("plan", GAME_STATE, SEQUENCER_LANE_WORKERS="many")
    assert done.returncode == 2
    assert done.stderr.startswith("SEQUENCER_LANE_WORKERS is 'many', and should be")


def test_no_web_framework_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['throttling-sequencer', 'plan', '--json', sys.argv[1]]\n"
        "from throttling_sequencer.cli import cli\n"
        "cli(standalone_mode=False)\n"
        "print(sorted({'fastapi', 'starlette', 'strawberry', 'sqlalchemy', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, GAME_STATE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_byte_order_mark_is_no_obstacle() -> None:
    done = run("plan", "-", "--json", stdin="\ufeff" + GAME_STATE.read_text())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("redirection", [">/dev/full", "<&-"])
def test_a_stream_that_cannot_be_used_is_told_in_a_sentence(redirection: str) -> None:
    file = "-" if redirection == "<&-" else str(GAME_STATE)
    program = Path(sys.executable).with_name("throttling-sequencer")
    done = subprocess.run(
        f"'{program}' plan '{file}' --timeout-ms 20 {redirection}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines() in (
        ["The plan cannot be written: No space left on device"],
        ["standard input is closed"],
    )
