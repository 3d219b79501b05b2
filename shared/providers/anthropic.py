"""Anthropic: no place to train. Its key is good for checking, and for the language models behind it.

Read 2026-11: platform.claude.com's API reference and release notes know no fine-tuning, and AWS's model card
of Claude 3 Haiku, the one Claude that Bedrock ever tuned, names 2026-09-10 as the end of its life.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

import aiohttp

from shared.errors import ProviderNotEligible, ProviderRejected, ProviderRunNotFound
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import KeyFacts, ProviderReport
from shared.providers.wire import refusal, silence
from shared.public_only import PublicResolver, require_public
from shared.training.config import Method
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunSpec

_ADDRESS = "https://api.anthropic.com"
_VERSION = "2023-06-01"  # of the API: the only one, see "API versioning" in its reference
_MOST_ERROR_BYTES = 65_536
NO_FINE_TUNING = (
    "Anthropic has no fine-tuning API. The one Claude that could be tuned, Claude 3 Haiku on Amazon Bedrock, "
    "reached the end of its life on 2026-09-10 (read 2026-11). Export the dataset in the Anthropic format to "
    "use its rows as examples in prompts, or train an open-weights model instead."
)


class AnthropicProvider:
    """Answers every start with the fact and what to do instead."""

    name = "anthropic"
    key: KeyProvider | None = "anthropic"
    methods: frozenset[Method] = frozenset({"full", "lora", "dpo"})  # so that each is answered with the fact
    runs_our_trainer = False
    keeps_disk = True
    late_seconds = 0.0

    def __init__(
        self,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 30,
        allow_private_addresses: bool = False,
    ) -> None:
        """`base_url` is the operator's and is trusted, other than that of a key, which is a user's."""
        self._base_url = base_url or _ADDRESS
        self._timeout_seconds = timeout_seconds
        self._allow_private_addresses = allow_private_addresses

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        _no_fine_tuning()

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        return []

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        raise ProviderRunNotFound(f"There are no runs. {NO_FINE_TUNING}")

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        raise ProviderRunNotFound(f"There are no runs. {NO_FINE_TUNING}")

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        raise ProviderRejected(f"There are no tuned models. {NO_FINE_TUNING}", code="model_not_at_provider")

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        """The account is the id of the organization that the key belongs to, where Anthropic names it."""
        guards = key.base_url is not None and not self._allow_private_addresses
        base_url = (key.base_url or self._base_url).rstrip("/").removesuffix("/v1")
        if guards:
            from shared.providers.guarded_http import require_https

            require_https(base_url)
            require_public(base_url)  # an address in digits never reaches the resolver
        headers = {"x-api-key": key.api_key.get_secret_value(), "anthropic-version": _VERSION}
        connector = aiohttp.TCPConnector(resolver=PublicResolver() if guards else None)
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                aiohttp.ClientSession(connector=connector, headers=headers) as session,
                session.get(f"{base_url}/v1/models?limit=1", allow_redirects=False) as answer,
            ):
                body = (await answer.content.read(_MOST_ERROR_BYTES)).decode(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            raise silence("Anthropic", error) from None
        if answer.status != 200:
            raise refusal("Anthropic", answer.status, body, headers=answer.headers, key=key.api_key)
        return KeyFacts(account=answer.headers.get("anthropic-organization-id"))

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        _no_fine_tuning()


def _no_fine_tuning() -> NoReturn:
    raise ProviderNotEligible(NO_FINE_TUNING, code="provider_has_no_fine_tuning")
