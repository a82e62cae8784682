"""Plans of one length as a mixed-integer program for HiGHS.

For a fixed number of steps, distance and final speed are linear in the throttles.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray
from throttling_sequencer.domain.navigation import PlanningProblem

# A throttle off by this much must not buy distance: with light units, one of them is worth 10⁴.
_TOLERANCE = 1e-9

# No score is negative. Of numbers that it cannot cope with, HiGHS says that it does not know.
_NOTHING_PROVEN = 0.0

_OPTIONS = {
    "output_flag": False,
    "log_to_console": False,
    "threads": 1,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 1e-7,
    "mip_feasibility_tolerance": _TOLERANCE,
    "primal_feasibility_tolerance": _TOLERANCE,
    "dual_feasibility_tolerance": _TOLERANCE,
    # What heavy units hold of an early throttle is little, and taken for nothing by default.
    "small_matrix_value": 1e-12,
    # Good plans come from outside, and what is left to do is to prove.
    "mip_heuristic_effort": 0.0,
}

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Program:
    """Integer throttles of least score, for one length and one direction of the final speed.

    Columns: the throttles, 1 for each of them that is not 0, the distance missed, the excess of speed.
    """

    problem: PlanningProblem
    length: int
    ends_backwards: bool

    def relaxed(self) -> float:
        """Return the score of the best plan with fractions of throttles: no plan of this kind can be below."""
        highs = _solved(self._lp(math.inf))
        if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            return math.inf
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return _NOTHING_PROVEN
        return float(highs.getInfo().objective_function_value)

    def solve(self, cutoff: float, seconds: float) -> tuple[float, tuple[int, ...]]:
        """Return what no plan of this kind below the cutoff can be below, and the best of them; none: infinity, ()."""
        model = self._lp(cutoff)
        whole, free = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        model.integrality_ = [whole] * (2 * self.length) + [free] * 2
        highs = _solved(model, time_limit=seconds)
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return math.inf, ()
        if status not in {highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit}:
            return _NOTHING_PROVEN, ()
        info = highs.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return info.mip_dual_bound, ()
        return info.mip_dual_bound, tuple(round(value) for value in highs.getSolution().col_value[: self.length])

    def _lp(self, cutoff: float) -> highspy.HighsLp:
        objective, length = self.problem.objective, self.length
        low, high = objective.throttle_range
        may_idle = low <= 0 <= high
        nonzero_weight = objective.nonzero_weight if may_idle else 0.0
        costs = _row(length, used=nonzero_weight, missed=objective.distance_weight, excess=objective.speed_weight)
        offset = length * (objective.length_weight + (0.0 if may_idle else objective.nonzero_weight))
        model = highspy.HighsLp()
        model.num_col_ = len(costs)
        model.col_cost_, model.offset_ = costs, offset
        model.col_lower_ = _row(length, throttles=low)
        model.col_upper_ = _row(length, throttles=high, used=1.0, missed=np.inf, excess=np.inf)
        rows = [*self._physics(), (costs, -np.inf, cutoff - offset)]
        if nonzero_weight:
            rows += _counting(length, low, high)
        _set_rows(model, rows)
        return model

    def _physics(self) -> list[tuple[Vector, float, float]]:
        """Return the rows that say what is missed, and how much too fast the end is."""
        kept = np.power(1.0 - self.problem.friction, np.arange(self.length, 0, -1), dtype=np.float64)
        ways: Vector = np.cumsum(kept[::-1])[::-1]
        coast_speed, missing = self.problem.speed * kept[0], self.problem.distance - self.problem.speed * ways[0]
        over = coast_speed - self.problem.objective.speed_threshold
        gains, holds = ways / self.problem.mass, kept / self.problem.mass
        rows = [
            (_row(self.length, throttles=gains, missed=1.0), missing, np.inf),
            (_row(self.length, throttles=gains, missed=-1.0), -np.inf, missing),
        ]
        if self.ends_backwards:
            direction = (_row(self.length, throttles=holds), -np.inf, -coast_speed)
            excess = (_row(self.length, throttles=holds, excess=1.0), -over, np.inf)
        else:
            direction = (_row(self.length, throttles=holds), -coast_speed, np.inf)
            excess = (_row(self.length, throttles=holds, excess=-1.0), -np.inf, -over)
        return [*rows, direction, excess]


def _row(
    length: int,
    throttles: float | Vector = 0.0,
    used: float | Vector = 0.0,
    missed: float = 0.0,
    excess: float = 0.0,
) -> Vector:
    row = np.zeros(2 * length + 2)
    row[:length], row[length:-2], row[-2], row[-1] = throttles, used, missed, excess
    return row


def _counting(length: int, low: int, high: int) -> Iterator[tuple[Vector, float, float]]:
    """Yield the rows that let no throttle be other than 0 without being counted."""
    for step in np.eye(length):
        yield _row(length, throttles=step, used=-high * step), -np.inf, 0.0
        yield _row(length, throttles=step, used=-low * step), 0.0, np.inf


def _set_rows(model: highspy.HighsLp, rows: list[tuple[Vector, float, float]]) -> None:
    matrix = np.array([row for row, _, _ in rows])
    present = matrix != 0.0
    model.num_row_ = len(rows)
    model.row_lower_ = np.array([lower for _, lower, _ in rows])
    model.row_upper_ = np.array([upper for _, _, upper in rows])
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate(([0], np.cumsum(present.sum(axis=1))))
    model.a_matrix_.index_ = np.nonzero(present)[1]
    model.a_matrix_.value_ = matrix[present]


def _solved(model: highspy.HighsLp, **options: float) -> highspy.Highs:
    highs = highspy.Highs()
    for name, value in {**_OPTIONS, **options}.items():
        assert highs.setOptionValue(name, value) == highspy.HighsStatus.kOk, name
    # Not an error, but a warning: what is below the smallest value is left out.
    assert highs.passModel(model) != highspy.HighsStatus.kError
    highs.run()
    return highs
