"""The composition of what is kept as presets: the configuration that every worker shares, and scenarios."""

import svcs
from api_server.application import Application
from api_server.services.preset_service import PresetService
from api_server.services.registry import ServiceRegistry

from throttling_sequencer.api.presets import GENETIC_CONFIGURATION, SCENARIO, read_configuration, read_scenario
from throttling_sequencer.application.configuration import ConfigurationEvents, ConfigurationStore, CurrentConfiguration
from throttling_sequencer.application.scenarios import ScenarioPlanning, ScenarioStore
from throttling_sequencer.infrastructure.preset_stores import (
    LoggedConfigurationEvents,
    NoConfigurationStore,
    PresetConfigurationStore,
    PresetScenarioStore,
)


def register_presets(registry: ServiceRegistry) -> None:
    """Register both over the foundation's presets; without a database the configuration is that of the settings."""
    registry.register_singleton(ConfigurationStore, _configurations)
    registry.register_value(ConfigurationEvents, LoggedConfigurationEvents())
    registry.register_singleton(CurrentConfiguration, svcs.autowire(CurrentConfiguration))
    registry.register_singleton(ScenarioStore, _scenarios)
    registry.register_singleton(ScenarioPlanning, svcs.autowire(ScenarioPlanning))


def _configurations(svcs_container: svcs.Container) -> ConfigurationStore:
    if not svcs_container.get(Application).keeps_presets:
        return NoConfigurationStore()
    presets = svcs_container.get(PresetService)
    return PresetConfigurationStore(presets, GENETIC_CONFIGURATION, read_configuration)


def _scenarios(svcs_container: svcs.Container) -> ScenarioStore:
    return PresetScenarioStore(svcs_container.get(PresetService), SCENARIO, read_scenario)
