"""What `doctor` says of the database: where its URL leads, and whether that is the primary itself."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Literal

from api_server.application import Application
from api_server.cli.checks.pipeline_builders import basic_pipeline
from api_server.cli.database_url import UNREADABLE, can_be_read
from api_server.database.advisory_lock import AdvisoryLockError, PoolerRefusedError, try_advisory_lock_async
from api_server.database.connection import create_engine
from api_server.findings import Finding
from api_server.readiness_pipeline import ReadinessCheckResult
from api_server.settings import get_settings

_LOCK = "api_server.doctor"
_LOCK_TIMEOUT_S = 10.0


async def database_findings(application: Application) -> Sequence[Finding]:
    """Return what is wrong with the way to the database, after a few seconds at most."""
    url = application.primary_url()
    if url is None:
        return [_missing(application)] if application.requires_database else []
    variables = ("API_SERVER_DATABASE_URL",) if get_settings().database_url else ()
    if not can_be_read(url):
        return [Finding("error", variables, UNREADABLE)]
    return list(_of_checks(await _checked(url), variables)) or await _of_lock(url, variables)


def _missing(application: Application) -> Finding:
    return Finding(
        "error",
        ("API_SERVER_DATABASE_URL",),
        f"{application.name} can do nothing without a database, and none is configured.",
    )


async def _checked(url: str) -> Sequence[ReadinessCheckResult]:
    engine = create_engine(url)
    try:
        report = await basic_pipeline(engine).run()
    finally:
        await engine.dispose()
    return report.stages[0].results


def _of_checks(results: Sequence[ReadinessCheckResult], variables: Sequence[str]) -> Iterator[Finding]:
    initialization, health = results
    if initialization.has_failed:
        # One that tells its version is there, and is not such as it should be.
        severity: Literal["error", "warning"] = "error" if "version" in initialization.details else "warning"
        reason = initialization.details.get("error")
        told = f"{initialization.message}: {reason}" if reason else initialization.message
        yield Finding(severity, variables, f"{told[0].upper()}{told[1:].rstrip('.')}.")
    elif health.has_failed:
        sentence = "The database is read-only, as a standby is. Name the primary, or add target_session_attrs=primary."
        yield Finding("error", variables, sentence)


async def _of_lock(url: str, variables: Sequence[str]) -> list[Finding]:
    """Take a lock and give it back: what migrations need, and a pooler cannot give."""
    try:
        async with asyncio.timeout(_LOCK_TIMEOUT_S), try_advisory_lock_async(_LOCK, url):
            return []
    except PoolerRefusedError as error:
        return [Finding("error", variables, str(error))]
    except AdvisoryLockError as error:
        return [Finding("warning", variables, str(error))]
    except TimeoutError:
        return [Finding("warning", variables, f"The database gives no lock within {_LOCK_TIMEOUT_S:g} s.")]
