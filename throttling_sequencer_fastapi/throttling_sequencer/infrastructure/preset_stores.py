"""What the sequencer keeps as presets of the foundation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from api_server.exceptions import DatabaseUnavailableError, InvalidFieldsError, ResourceNotFoundError
from api_server.identity import ADMIN_SCOPE, Principal
from api_server.services.preset_service import PresetService
from api_server.validation import FieldProblem, field_problems
from pydantic import ValidationError

from throttling_sequencer.application.mappers import GameStateShape
from throttling_sequencer.domain.errors import StorageUnavailableError
from throttling_sequencer.domain.genetic_path import GeneticConfiguration

Document: TypeAlias = Mapping[str, Any]

log = structlog.get_logger("throttling_sequencer.presets")


class PresetConfigurationStore:
    """The `ConfigurationStore` of a service with a database: the default preset of a kind."""

    def __init__(self, presets: PresetService, kind: str, read: Callable[[Document], GeneticConfiguration]) -> None:
        self._presets = presets
        self._kind = kind
        self._read = read

    async def default_configuration(self) -> GeneticConfiguration | None:
        try:
            document = await self._presets.default_document(self._kind)
        except DatabaseUnavailableError as error:
            raise StorageUnavailableError(error.reason) from error
        if document is None:
            return None
        try:
            return self._read(document)
        except ValidationError as error:
            # It kept the rules when it was written: they, or the settings, have changed since.
            log.warning("default preset is not used", kind=self._kind, problems=_problems_of(error))
            return None


class NoConfigurationStore:
    """The `ConfigurationStore` of a service without a database."""

    async def default_configuration(self) -> None:
        return None


class PresetScenarioStore:
    """The `ScenarioStore` of a service with a database: presets of a kind.

    Raises ResourceNotFoundError, DatabaseUnavailableError, and InvalidFieldsError for one that kept the rules when it
    was written and does so no longer.
    """

    def __init__(self, presets: PresetService, kind: str, read: Callable[[Document], GameStateShape]) -> None:
        self._presets = presets
        self._kind = kind
        self._read = read

    async def scenario(self, scenario_id: UUID, *, asker: str, is_admin: bool) -> GameStateShape:
        scopes = frozenset({ADMIN_SCOPE} if is_admin else ())
        preset = await self._presets.get(Principal(asker, scopes), scenario_id)
        if preset.kind != self._kind:
            raise ResourceNotFoundError(self._kind, scenario_id)
        try:
            return self._read(preset.document)
        except ValidationError as error:
            raise InvalidFieldsError(_problems_of(error, self._kind)) from error


def _problems_of(error: ValidationError, *within: str) -> Sequence[FieldProblem]:
    problems = error.errors(include_url=False, include_input=False)
    return field_problems([{**problem, "loc": (*within, *problem["loc"])} for problem in problems])


class LoggedConfigurationEvents:
    """Writes one line for each thing that `ConfigurationEvents` tells."""

    def changed(self, *, is_kept: bool) -> None:
        log.info("genetic configuration changed", source="preset" if is_kept else "settings")

    def failed(self, error: Exception) -> None:
        log.error("genetic configuration cannot be read", exc_info=error)
