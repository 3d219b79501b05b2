"""Which providers there are: a plain table."""

from __future__ import annotations

from collections.abc import Mapping

from shared.config import Settings
from shared.errors import InvalidRequest
from shared.providers.anthropic import AnthropicProvider
from shared.providers.base import TrainingProvider
from shared.providers.huggingface import HuggingFaceProvider
from shared.providers.local import LocalProvider
from shared.providers.modal import ModalProvider
from shared.providers.openai import OpenAIProvider
from shared.providers.together import TogetherProvider

Providers = Mapping[str, TrainingProvider]
_HOW_TO_ADD = {
    "modal": "For modal the operator sets MODAL_TOKEN_ID and MODAL_TOKEN_SECRET.",
    "huggingface": "For huggingface the operator sets FINEFLOW_HUGGINGFACE_IMAGE, an image with the trainer.",
}


def providers(settings: Settings) -> Providers:
    """Every provider that this server can train with, by name."""
    private = settings.reaches_private_addresses
    late_seconds = settings.provider_late_seconds
    available: list[TrainingProvider] = [
        LocalProvider(settings.data_dir),
        OpenAIProvider(allow_private_addresses=private, late_seconds=late_seconds),
        TogetherProvider(allow_private_addresses=private, late_seconds=late_seconds),
        AnthropicProvider(allow_private_addresses=private),
    ]
    if settings.huggingface_image is not None:
        available.append(HuggingFaceProvider(image=settings.huggingface_image, late_seconds=late_seconds))
    if settings.modal_token_id is not None and settings.modal_token_secret is not None:
        available.append(
            ModalProvider(
                token_id=settings.modal_token_id,
                token_secret=settings.modal_token_secret,
                environment=settings.modal_environment,
            )
        )
    return {provider.name: provider for provider in available}


def choose(available: Providers, name: str, method: str) -> TrainingProvider:
    """The provider of this name. Raises InvalidRequest when it is not here or does not know the method."""
    provider = available.get(name)
    if provider is None:
        how = f" {_HOW_TO_ADD[name]}" if name in _HOW_TO_ADD else ""
        raise InvalidRequest(
            f"This server has no training provider {name!r}. Available: {', '.join(sorted(available))}.{how}",
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
