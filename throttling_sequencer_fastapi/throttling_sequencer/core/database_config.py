"""`PICCOLO_DB_*`: the sequencer's database."""

from typing import Annotated, Self
from urllib.parse import quote

from api_server.environment import comma_separated
from api_server.settings import is_production, settings_config
from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, NoDecode

Host = Annotated[str, StringConstraints(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class PiccoloDBConfig(BaseSettings):
    """How the sequencer reaches its database: one host, or several with a port each."""

    model_config = settings_config("PICCOLO_DB_")

    host: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=(), description="host, or several separated by commas; unset: no database"
    )
    port: Annotated[tuple[Port, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        default=(5432,), description="port (1 to 65535), or one for each host separated by commas"
    )
    user: str = Field(default="postgres", description="the role to connect as")
    password: SecretStr = Field(default=SecretStr(""), description="its password")
    database: str = Field(default="throttling_sequencer", description="the database's name")
    pool_size: int = Field(default=5, ge=1, le=1000, description="connections of each serving process at most")
    run_migrations: bool = Field(
        default=False, description="apply Piccolo's migrations at the start; refused in production"
    )

    @model_validator(mode="after")
    def _ports_pair_with_hosts(self) -> Self:
        if len(self.port) > 1 and len(self.port) != len(self.host):
            raise ValueError("PICCOLO_DB_PORT should hold one port, or one for each host of PICCOLO_DB_HOST.")
        return self

    @model_validator(mode="after")
    def _production_is_migrated_by_who_deploys(self) -> Self:
        if self.run_migrations and is_production():
            raise ValueError(
                "PICCOLO_DB_RUN_MIGRATIONS should not be true where ENV_TYPE is production: there, migrations are "
                "applied by whoever deploys, before the service starts."
            )
        return self

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Each host with its port."""
        ports = self.port * len(self.host) if len(self.port) == 1 else self.port
        return tuple(zip(self.host, ports, strict=True)) if self.host else ()

    @property
    def url(self) -> str | None:
        """The libpq URL of this database, None where no host is set."""
        if not self.host:
            return None
        hosts = ",".join(f"{quote(host, safe='')}:{port}" for host, port in self.addresses)
        login = f"{quote(self.user, safe='')}:{quote(self.password.get_secret_value(), safe='')}"
        # Of several hosts, the one that takes writes.
        which = "?target_session_attrs=read-write" if len(self.host) > 1 else ""
        return f"postgresql://{login}@{hosts}/{quote(self.database, safe='')}{which}"
