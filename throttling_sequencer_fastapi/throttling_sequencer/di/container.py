"""Containers for whoever has no FastAPI app: scripts, planning processes, end-to-end tests."""

from collections.abc import Callable
from typing import TypeAlias

import svcs
from api_server.services.registry import ServiceRegistry

Part: TypeAlias = Callable[[ServiceRegistry], None]
"""Registers some services, as `register_planning` does."""


def build_registry(*parts: Part) -> ServiceRegistry:
    """Build a registry of these parts, where a later part wins over an earlier one."""
    registry = ServiceRegistry()
    for part in parts:
        part(registry)
    return registry


def build_container(*parts: Part) -> svcs.Container:
    """Build a container of these parts alone; close it, or use it as a context."""
    return svcs.Container(build_registry(*parts))
