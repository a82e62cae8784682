"""What each setting is, and where that comes from."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_json
from pydantic_settings import BaseSettings, NoDecode

from api_server.application import Application
from api_server.cli.output import holds_login
from api_server.environment import source_of, value_of
from api_server.server import UvicornServerConfig
from api_server.settings import Settings, variables_of

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_./:@,+%=*?&~-]+")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A variable, as the process that asks would read it; its value as an env file spells it.

    `value` is None where the variable is unset, and where it `is_hidden`: a secret, or a URL by which somebody logs in.
    """

    variable: str
    value: str | None
    source: str
    is_hidden: bool = False

    @property
    def shown(self) -> str:
        """What a person is shown."""
        return "(set, hidden)" if self.is_hidden else self.value or "(unset)"

    @property
    def line(self) -> str:
        """The line of an env file that sets this again; a comment where there is nothing to set, or to see."""
        if self.value is None:
            return f"# {self.variable} is {'set and hidden' if self.is_hidden else 'unset'}"
        return f"{self.variable}={_quoted(self.value)}"


def settings_classes(application: Application) -> Sequence[type[BaseSettings]]:
    """Return every class that a service of this application reads its settings by."""
    return (UvicornServerConfig, Settings, *application.settings)


def effective_settings(classes: Iterable[type[BaseSettings]]) -> Iterator[EffectiveSetting]:
    """Yield every variable of these classes, whether or not its value may be used."""
    for cls in classes:
        for variable, field in variables_of(cls).items():
            yield _effective(variable, field)


def as_env_file(settings: Iterable[EffectiveSetting]) -> str:
    """Return the lines of an env file that sets all this again, each source in a comment above what comes from it."""
    groups = groupby(settings, key=lambda setting: setting.source)
    return "\n".join(line for source, group in groups for line in (f"# {source}", *(each.line for each in group)))


def as_json_object(settings: Iterable[EffectiveSetting]) -> str:
    """Return one JSON object: the value, its source, and whether it is hidden, by the variable's name."""
    told = {
        setting.variable: {"value": setting.value, "source": setting.source, "is_hidden": setting.is_hidden}
        for setting in settings
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def _effective(variable: str, field: FieldInfo) -> EffectiveSetting:
    value = value_of(variable) or _spelled(field)
    source = source_of(variable) or "default"
    is_secret = "Secret" in str(field.annotation) or holds_login(value)
    if value and is_secret:
        return EffectiveSetting(variable, None, source, is_hidden=True)
    return EffectiveSetting(variable, value or None, source)


def _spelled(field: FieldInfo) -> str:
    """Spell a field's default as a variable would."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    match value.value if isinstance(value, Enum) else value:
        case None | () | []:
            return ""
        case SecretStr() | SecretBytes() as secret:
            return "secret" if secret.get_secret_value() else ""
        case tuple() | list() as several if NoDecode in field.metadata:
            return ",".join(map(str, several))
        case str() as text:
            return text
        case other:
            # As JSON has it: so are switches and numbers spelled, and so is decoded whatever is not annotated.
            return to_json(other).decode()


def _quoted(value: str) -> str:
    return value if _NEEDS_NO_QUOTES.fullmatch(value) else f'"{value.translate(_ESCAPES)}"'
