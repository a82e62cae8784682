"""What REST and GraphQL are measured beside: the least that FastAPI and Strawberry need to answer the same.

No identity, no ids, no log, no containers: one route, and one router as Strawberry's documentation has it, over the
same lane, planner, settings, shapes and rules.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import strawberry
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from strawberry.fastapi import GraphQLRouter
from throttling_sequencer.api.graphql.types import CoordinateType, GameStateInputType, UnitGoalType
from throttling_sequencer.api.http.v1.dtos import CoordinateDto, GameStateDto, UnitGoalDto
from throttling_sequencer.application.mappers import GameStateShape, from_goals, to_game_state
from throttling_sequencer.application.planning import PlanningTask
from throttling_sequencer.core.settings import SequencerSettings
from throttling_sequencer.di.planning import lane_planner, register_planning
from throttling_sequencer.domain.game import UnitGoal
from throttling_sequencer.domain.navigation import Budget
from throttling_sequencer.domain.unit_plan import Course
from throttling_sequencer.infrastructure.lane import ProcessLane

from bench.service import PLAN_PATH


class _BarePlanning:
    def __init__(self) -> None:
        settings = SequencerSettings()
        self._max_units = settings.max_units
        self._configuration = settings.genetic_configuration
        self._budget = Budget(settings.timeout_ms)
        self.lane = ProcessLane(
            partial(lane_planner, register_planning),
            workers=settings.lane_workers,
            max_waiting=settings.lane_waiting,
            max_waiting_ms=settings.lane_waiting_ms,
        )

    async def plan(self, shape: GameStateShape) -> list[UnitGoal]:
        state = to_game_state(shape, self._max_units)
        course = Course(0, 0, state.player_units[0], state.enemy_units[0])
        (plan,) = await self.lane.run(PlanningTask((course,), self._configuration, self._budget))
        return [UnitGoal(course.target.coordinate, throttle) for throttle in plan.plan.throttles]


def bare() -> FastAPI:
    """Serve the plan over REST and over GraphQL."""
    planning = _BarePlanning()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await planning.lane.start()
        yield
        await planning.lane.close()

    app = FastAPI(lifespan=lifespan)

    @app.post(PLAN_PATH)
    async def calculate_throttle_steps(game_state: GameStateDto) -> list[UnitGoalDto]:
        return from_goals(await planning.plan(game_state), coordinate=CoordinateDto, goal=UnitGoalDto)

    async def resolve(game_state_input: GameStateInputType) -> list[UnitGoalType]:
        return from_goals(await planning.plan(game_state_input), coordinate=CoordinateType, goal=UnitGoalType)

    @strawberry.type
    class Query:
        calculate_throttle_steps: list[UnitGoalType] = strawberry.field(resolver=resolve)

    app.include_router(GraphQLRouter(strawberry.Schema(Query), path="/graphql"))
    return app


def nothing() -> ASGIApp:
    """Answer every request with the same two bytes: what the client itself can do."""
    return _nothing


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
