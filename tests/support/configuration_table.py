"""The README's table of configuration, made from the settings classes; run it to print the table."""

from api_server.server import UvicornServerConfig
from api_server.settings import Settings, variables_of
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from throttling_sequencer.core.database_config import PiccoloDBConfig
from throttling_sequencer.core.settings import SequencerSettings

# What a machine decides rather than the code.
_COMPUTED = {"SEQUENCER_LANE_WORKERS": "the number of cores"}


def rows() -> list[str]:
    """Return the table's lines, without its head."""
    return [
        f"| `{name}` | {_COMPUTED.get(name) or _default(field)} | {field.description} |"
        for settings in (UvicornServerConfig, Settings, PiccoloDBConfig, SequencerSettings)
        for name, field in variables_of(settings).items()
    ]


def _default(field: FieldInfo) -> str:
    match field.default:
        case None | "" | () | SecretStr():
            return "unset"
        case bool():
            return f"`{str(field.default).lower()}`"
        case tuple():
            return f"`{','.join(map(str, field.default))}`"
        case _:
            return f"`{field.default}`"


if __name__ == "__main__":
    print("\n".join(rows()))  # noqa: T201 - a program that prints
