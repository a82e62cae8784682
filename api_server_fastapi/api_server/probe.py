"""`python -m api_server.probe`: ends with 0 where the service that this environment describes is ready, else with 1.

It loads the standard library only, because a container runs it every few seconds beside the service.
"""

import os
import signal
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import FrameType
from typing import NoReturn

_PATIENCE_S = 3
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def main() -> None:
    """Ask for the readiness report where `UVICORN_HOST` and `UVICORN_PORT` say, for three seconds at most."""
    # As the service reads them: whatever their case, the last one wins, and an empty one is unset.
    variables = {name.upper(): value for name, value in os.environ.items() if value}
    host = variables.get("UVICORN_HOST", "127.0.0.1")
    # Not a time-out of the socket, which would begin anew with every byte.
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_PATIENCE_S)
    try:
        status, report = _ask(_ANY_ADDRESS.get(host, host), int(variables.get("UVICORN_PORT", "8080")))
    except (OSError, HTTPException, ValueError) as error:
        sys.exit(f"not ready: {error!r}")
    if status != HTTPStatus.OK:
        sys.exit(f"not ready: {status} {report}")


def _ask(host: str, port: int) -> tuple[int, str]:
    connection = HTTPConnection(host, port)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def _give_up(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    raise TimeoutError(f"no answer within {_PATIENCE_S} s")


if __name__ == "__main__":
    main()
