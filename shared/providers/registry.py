"""Which providers there are: a plain table."""

from __future__ import annotations

from collections.abc import Mapping

from shared.config import Settings
from shared.errors import InvalidRequest
from shared.providers.base import TrainingProvider
from shared.providers.local import LocalProvider

Providers = Mapping[str, TrainingProvider]


def providers(settings: Settings) -> Providers:
    """Every provider that this server can train with, by name."""
    return {provider.name: provider for provider in (LocalProvider(settings.data_dir),)}


def choose(available: Providers, name: str, method: str) -> TrainingProvider:
    """The provider of this name. Raises InvalidRequest when it is not here or does not know the method."""
    provider = available.get(name)
    if provider is None:
        raise InvalidRequest(
            f"This server has no training provider {name!r}. Available: {', '.join(sorted(available))}.",
            code="provider_not_available",
            details={"available": sorted(available)},
        )
    if method not in provider.methods:
        raise InvalidRequest(
            f"{name} does not offer the method {method!r}. Available: {', '.join(sorted(provider.methods))}.",
            code="method_not_available",
            details={"available": sorted(provider.methods)},
        )
    return provider
