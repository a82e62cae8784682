"""Damping of checks that flap: how often in a row an answer must be given to be believed."""

from dataclasses import dataclass, field, replace

from api_server.readiness_pipeline.check import CheckStatus, ReadinessCheckResult


@dataclass(slots=True)
class _Standing:
    """Whether a check is believed to be good, and how often in a row it has said otherwise."""

    is_good: bool
    contradictions: int = 0


@dataclass(slots=True)
class Damping:
    """A check that was good has failed after `failures` failures in a row, and is good again after `successes`.

    The first answer of a check is believed at once: what never worked is not ready.
    """

    failures: int = 1
    successes: int = 1
    _standings: dict[str, _Standing] = field(default_factory=dict)

    def damped(self, result: ReadinessCheckResult) -> ReadinessCheckResult:
        """Return the result that counts now that a check has given this one."""
        if result.status is CheckStatus.SKIPPED:
            return result
        is_good = result.status is not CheckStatus.FAILED
        standing = self._standings.setdefault(result.name, _Standing(is_good))
        if is_good is standing.is_good:
            standing.contradictions = 0
            return result
        standing.contradictions += 1
        needed = self.successes if is_good else self.failures
        if standing.contradictions >= needed:
            standing.is_good, standing.contradictions = is_good, 0
            return result
        status = CheckStatus.FAILED if is_good else CheckStatus.WARNING
        word = "good" if is_good else "failed"
        message = f"{word} {standing.contradictions} of {needed} times in a row: {result.message}"
        return replace(result, status=status, message=message, is_damped=True)
