"""Serves the sequencer on this machine, with a database of its own where none is configured.

python throttling_sequencer_fastapi/manage.py [--env-file FILE] [--data FOLDER]
"""

import argparse
import sys
import threading
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_server.server import UvicornServerConfig

HERE = Path(__file__).resolve().parent
LOG_CONFIG = HERE / "throttling_sequencer" / "configuration" / "log_config_json.json"
FACTORY = "throttling_sequencer.app:create_app"
PRODUCTION = (
    "Throttling Sequencer is ready on {url}; what needs identity answers 401, for there is no identity provider.\n"
)
TRY_IT = """\
Throttling Sequencer is ready on {url} (GraphQL on /graphql, documentation on /docs). Ctrl-C stops it. A plan:
  curl -s {url}/api/v1/throttle/calculate_throttle_steps -H 'Content-Type: application/json' -d '{body}'
"""
BODY = (
    '{"player_units":[{"coordinate":{"x":0,"y":0},"speed":0,"mass":10,"friction":0.01}],'
    '"enemy_units":[{"coordinate":{"x":5000,"y":0},"speed":0,"mass":10,"friction":0.01}]}'
)


def main() -> None:
    """Serve until Ctrl-C or SIGTERM, then stop what was started; a start that fails says why and exits with 2."""
    arguments = _arguments()
    try:
        from api_server.exceptions import StartError  # noqa: PLC0415 - explained by the error below
    except ModuleNotFoundError as error:
        sys.exit(f"There is no module {error.name} for {sys.executable}. Run `make setup`, then use .venv/bin/python.")
    try:
        _serve(arguments.env_file, arguments.data)
    except StartError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-file", type=Path, help="variables to read; those that are set already win")
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / ".data", help="where the embedded database keeps its data"
    )
    return parser.parse_args()


def _serve(env_file: Path | None, data: Path) -> None:
    # Imported here, because planning processes import this file again and need nothing of it.
    from api_server.environment import load_env_file  # noqa: PLC0415
    from api_server.logging import configure_logging  # noqa: PLC0415
    from api_server.server import UvicornServerConfig, exit_on_signals, listening, serve  # noqa: PLC0415
    from api_server.settings import get_settings  # noqa: PLC0415
    from throttling_sequencer.app import SEQUENCER  # noqa: PLC0415

    exit_on_signals()
    if env_file is not None:
        load_env_file(env_file)
    SEQUENCER.check_environment(UvicornServerConfig)
    configure_logging(get_settings().log_level, get_settings().log_format)
    config = UvicornServerConfig()
    with ExitStack() as started:
        listener = started.enter_context(listening(config))
        _start_database(data, started)
        threading.Thread(target=_announce, args=(config, listener.getsockname()[1]), daemon=True).start()
        serve(FACTORY, config, listener, log_config=LOG_CONFIG)


def _start_database(data: Path, started: ExitStack) -> None:
    """Start the embedded PostgreSQL and tell every process of the service, unless a database is configured."""
    from api_server.environment import override_environment, value_of  # noqa: PLC0415
    from api_server.settings import get_settings  # noqa: PLC0415
    from throttling_sequencer.core.database_config import PiccoloDBConfig  # noqa: PLC0415
    from throttling_sequencer.core.settings import SequencerSettings  # noqa: PLC0415

    database = PiccoloDBConfig()
    is_wanted = SequencerSettings().persistence == "piccolo" and not database.host
    if not is_wanted or get_settings().env_type == "production":
        return
    from api_server.local.postgres import embedded_postgres  # noqa: PLC0415 - an extra that a production has not

    address = started.enter_context(embedded_postgres(data / "postgres", database.database, say=_say))
    override_environment(
        {
            "PICCOLO_DB_HOST": address.host,
            "PICCOLO_DB_PORT": str(address.port),
            "PICCOLO_DB_USER": address.user,
            "PICCOLO_DB_PASSWORD": address.password,
            # Nobody else migrates a database that nobody else knows.
            "PICCOLO_DB_RUN_MIGRATIONS": value_of("PICCOLO_DB_RUN_MIGRATIONS") or "true",
        },
        source="the embedded database",
    )


def _announce(config: "UvicornServerConfig", port: int) -> None:
    """Say where the service is, once it answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - compared, not bound
    connection = HTTPConnection(host, port)
    try:
        # The socket listens already; the answer comes when the service has started.
        connection.request("GET", "/livez")
        connection.getresponse()
    except (OSError, HTTPException):
        return  # it did not start, and says why itself
    finally:
        connection.close()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    from api_server.settings import get_settings  # noqa: PLC0415 - see _serve

    text = PRODUCTION if get_settings().env_type == "production" else TRY_IT
    _say(text.format(url=url, body=BODY))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
