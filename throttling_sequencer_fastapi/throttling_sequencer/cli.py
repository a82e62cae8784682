"""`throttling-sequencer`: plans without a server."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from api_server.exceptions import StartError
from api_server.settings import read_settings
from api_server.validation import field_problems
from pydantic import TypeAdapter, ValidationError

from throttling_sequencer.api.http.v1.dtos import CoordinateDto, GameStateDto, UnitGoalDto
from throttling_sequencer.application.mappers import from_goals, to_game_state
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.container import build_container
from throttling_sequencer.di.planning import register_planning, use_strategy
from throttling_sequencer.domain.errors import InvalidValueError
from throttling_sequencer.domain.game import UnitGoal
from throttling_sequencer.domain.genetic_path import GeneticConfiguration
from throttling_sequencer.domain.navigation import Budget, PlanningProblem, ThrottlePlan
from throttling_sequencer.domain.physics import trajectory
from throttling_sequencer.domain.unit_plan import Course
from throttling_sequencer.services.throttle_steps_service import ThrottleStepsService

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@cli.callback()
def throttling_sequencer() -> None:
    """Plan how game-like units throttle to a target and stop there."""


@cli.command()
def plan(
    game_state: Annotated[str, typer.Argument(metavar="FILE", help="A game state as JSON; - reads standard input.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the goals as the REST API answers them.")] = False,
    strategy: Annotated[str | None, typer.Option(help="The path finder; by default the configured one.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes the search repeatable, as far as its generations end it and not its time.")
    ] = None,
    timeout_ms: Annotated[int | None, typer.Option(help="Milliseconds that the search may take.")] = None,
) -> None:
    """Plan the throttles of the first player unit on its way to the first enemy unit."""
    read_settings(SequencerSettings)
    with build_container(register_planning) as container:
        configuration = container.get(GeneticConfiguration)
        state = to_game_state(_parsed(game_state), container.get(SequencerSettings).max_units)
        budget = Budget(configuration.timeout_ms if timeout_ms is None else timeout_ms, seed)
        if strategy is not None:
            use_strategy(container, strategy)
        course = Course(0, 0, state.player_units[0], state.enemy_units[0])
        (planned,) = container.get(ThrottleStepsService).plan((course,), configuration.objective, budget)
    if as_json:
        goals = [UnitGoal(course.target.coordinate, throttle) for throttle in planned.plan.throttles]
        answer = from_goals(goals, coordinate=CoordinateDto, goal=UnitGoalDto)
        typer.echo(TypeAdapter(list[UnitGoalDto]).dump_json(answer, indent=2))
    else:
        _print_table(course, planned.plan, configuration)


def main() -> None:
    """Run the command line; what was wrong is told in sentences and exits with status 2."""
    try:
        cli()
    except (StartError, InvalidValueError) as error:
        typer.echo(str(error), err=True)
        raise SystemExit(2) from error
    except OSError as error:
        typer.echo(f"The plan cannot be written: {error.strerror}", err=True)
        raise SystemExit(1) from error


def _parsed(file: str) -> GameStateDto:
    name = "standard input" if file == "-" else repr(file)
    try:
        # A terminal's encoding plays no part, and an editor's byte order mark is none of JSON's business.
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return GameStateDto.model_validate_json(content.decode("utf-8-sig"))
    except AttributeError as error:
        raise InvalidValueError(name, "is closed") from error
    except OSError as error:
        raise InvalidValueError(name, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValueError(name, "should be text in UTF-8") from error
    except ValidationError as error:
        problem = field_problems(error.errors())[0]
        field = name if problem["field"] == "body" else problem["field"]
        raise InvalidValueError(field, problem["rule"]) from error


def _print_table(course: Course, plan: ThrottlePlan, configuration: GeneticConfiguration) -> None:
    from rich.console import Console  # noqa: PLC0415 - only a table needs it
    from rich.table import Table  # noqa: PLC0415 - only a table needs it

    problem = PlanningProblem.between(course.unit, course.target, configuration.objective)
    table = Table("step", "throttle", "speed", "covered", "remaining")
    for column in table.columns:
        column.justify = "right"
    steps = zip(plan.throttles, trajectory(problem, plan.throttles), strict=True)
    for step, (throttle, (covered, speed)) in enumerate(steps, 1):
        numbers = (f"{speed:.3f}", f"{covered:.3f}", f"{problem.distance - covered:.3f}")
        table.add_row(str(step), str(throttle), *numbers)
    console = Console()
    console.print(table)
    parts = plan.score_parts
    proven = "" if plan.gap is None else f"; at most {plan.gap:.4f} above the best, by proof"
    console.print(
        f"score {parts.total:.4f} = distance {parts.distance:.4f} + speed {parts.speed:.4f}"
        f" + length {parts.length:.4f} + nonzero {parts.nonzero:.4f}{proven}",
        soft_wrap=True,
    )
