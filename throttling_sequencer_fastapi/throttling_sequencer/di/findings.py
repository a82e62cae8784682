"""What `doctor` says of the sequencer's settings."""

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from api_server.findings import Finding
from api_server.server import UvicornServerConfig
from api_server.settings import get_settings, libpq_url

from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings


def findings() -> Sequence[Finding]:
    """Return the contradictions among settings that are each well-formed."""
    found = (_memory_of_several(), _no_database(), _memory_beside_database(), _two_databases(), _small_allowance())
    return [finding for finding in found if finding]


def _memory_of_several() -> Finding | None:
    workers = UvicornServerConfig().workers
    if SequencerSettings().persistence == "piccolo" or workers == 1:
        return None
    return Finding(
        "warning",
        ("SEQUENCER_PERSISTENCE", "UVICORN_WORKERS"),
        f"The request log is kept in memory, and so are stored plans, each of the {workers} workers its own: a client "
        "sees only what it asked of the worker that happens to answer, and a repeated request may be planned anew. Use "
        "one worker, or the database.",
    )


def _no_database() -> Finding | None:
    if SequencerSettings().persistence == "memory" or PiccoloDBConfig().host:
        return None
    return Finding(
        "error" if get_settings().env_type == "production" else "warning",
        ("PICCOLO_DB_HOST", "SEQUENCER_PERSISTENCE"),
        "The database is to keep the request log and stored plans, but none is configured: they are kept in memory, "
        "and are gone when the process ends. Set PICCOLO_DB_HOST, "
        "or SEQUENCER_PERSISTENCE=memory if that is meant. (manage.py starts a database of its own.)",
    )


def _memory_beside_database() -> Finding | None:
    if SequencerSettings().persistence == "piccolo" or not PiccoloDBConfig().host:
        return None
    return Finding(
        "warning",
        ("SEQUENCER_PERSISTENCE", "PICCOLO_DB_HOST"),
        "A database is configured, but SEQUENCER_PERSISTENCE=memory leaves it unused.",
    )


def _two_databases() -> Finding | None:
    """Tell of tables that are made in one database and looked for in another; the hosts may differ for a pooler."""
    url, own = get_settings().database_url, PiccoloDBConfig()
    if url is None or not own.host or SequencerSettings().persistence == "memory":
        return None
    name = unquote(urlsplit(libpq_url(url.get_secret_value())).path.removeprefix("/"))
    if not name or name == own.database:
        return None
    return Finding(
        "error",
        ("API_SERVER_DATABASE_URL", "PICCOLO_DB_DATABASE"),
        f"Two databases: migrations and locks are for {name}, and requests are kept in {own.database}.",
    )


def _small_allowance() -> Finding | None:
    settings = SequencerSettings()
    allowance, one_search = settings.planning_allowance_ms, settings.timeout_ms
    if allowance >= one_search * settings.lane_workers:
        return None
    most = "one search" if allowance < one_search else "one search of several units"
    return Finding(
        "error" if allowance < one_search else "warning",
        ("SEQUENCER_PRINCIPAL_PLANNING_MS", "SEQUENCER_TIMEOUT_MS"),
        f"Nobody may have more than {allowance} ms of planning in a minute, and {most} may take {one_search} ms"
        f"{'' if allowance < one_search else f' on each of {settings.lane_workers} processes'}: it is refused for ever "
        "where it names no smaller budget.",
    )
