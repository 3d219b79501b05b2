"""Asks a provider whether a key works, before it is stored and whenever its user wants to know.

Training providers check their own keys. Those of language models are tried on the list of models, which
costs nothing (ai.google.dev/api/models and platform.openai.com/docs/api-reference/models, 2026-11).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import aiohttp

from shared.config import Settings
from shared.errors import (
    InvalidRequest,
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.keys.store import KeyProvider, OpenedKey
from shared.log import redact
from shared.providers.base import KeyFacts
from shared.providers.huggingface import HuggingFaceProvider
from shared.providers.registry import Providers
from shared.public_only import PublicResolver, require_public, require_public_host

TIMEOUT_SECONDS = 20
_GEMINI_URL = "https://generativelanguage.googleapis.com"
_MOST_BYTES = 2_000_000  # OpenRouter's list of models, the longest seen, takes 700 kB


async def check(
    key_provider: KeyProvider, opened: OpenedKey, providers: Providers, settings: Settings
) -> KeyFacts:
    """The provider takes this key, and says this of it. Starts nothing and costs nothing.

    Raises ProviderKeyInvalid; ProviderUnavailable when nobody can say; ProviderRejected when the address
    is refused, or is not that of such a service; InvalidRequest when this server cannot ask there.
    """
    public_only = opened.base_url is not None and not settings.reaches_private_addresses
    if opened.base_url is not None and public_only:
        await require_public_host(opened.base_url)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if key_provider == "gemini":
                return await _ask(_gemini(opened, settings), public_only=False)
            if key_provider == "openai_compatible":
                return await _ask(_openai_compatible(opened, settings), public_only=public_only)
            return await _ask_trainer(key_provider, opened, providers)
    except TimeoutError as error:
        raise ProviderUnavailable(
            f"{key_provider} did not answer in {TIMEOUT_SECONDS} s. Try again."
        ) from error


async def _ask_trainer(key_provider: KeyProvider, opened: OpenedKey, providers: Providers) -> KeyFacts:
    for provider in providers.values():
        if provider.key == key_provider:
            return await provider.check_key(opened)
    if key_provider == "huggingface":  # also where no image is set to train with: a key opens the Hub too
        return await HuggingFaceProvider(image="").check_key(opened)
    raise InvalidRequest(
        f"This server does not train with {key_provider}, so it cannot check the key. "
        "Set it with `validate: false`.",
        code="key_check_not_available",
    )


@dataclass(frozen=True)
class _List:
    """The models of a service, and who may see them."""

    name: str
    url: str
    headers: dict[str, str]
    field: str  # where the models stand in the answer


def _gemini(opened: OpenedKey, settings: Settings) -> _List:
    base_url = (settings.gemini_base_url or _GEMINI_URL).rstrip("/")
    headers = {"x-goog-api-key": opened.api_key.get_secret_value()}
    return _List("gemini", f"{base_url}/v1/models?pageSize=1", headers, "models")


def _openai_compatible(opened: OpenedKey, settings: Settings) -> _List:
    base_url = opened.base_url or settings.openai_compatible_base_url
    if base_url is None:
        raise InvalidRequest("Say where the service answers: baseUrl, `.../v1` included.")
    headers = {"authorization": f"Bearer {opened.api_key.get_secret_value()}"}
    return _List("openai_compatible", f"{base_url.rstrip('/')}/models", headers, "data")


async def _ask(models: _List, *, public_only: bool) -> KeyFacts:
    if public_only:
        require_public(models.url)
    connector = aiohttp.TCPConnector(resolver=PublicResolver() if public_only else None)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, headers=models.headers) as session,
            session.get(models.url, allow_redirects=False) as response,
        ):
            content = await _read(response)
    except (aiohttp.ClientError, OSError) as error:
        raise ProviderUnavailable(
            f"{models.name} did not answer: {type(error).__name__}. Try again."
        ) from error
    if response.status == 200 and _is_list(content, models.field):
        return KeyFacts()
    raise _refusal(models.name, response, content)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        content += piece
        if len(content) > _MOST_BYTES:
            return b""
    return bytes(content)


def _is_list(content: bytes, field: str) -> bool:
    try:
        return isinstance(json.loads(content)[field], list)
    except (ValueError, KeyError, TypeError):
        return False


def _refusal(name: str, response: aiohttp.ClientResponse, content: bytes) -> Exception:
    status, reason = response.status, _reason(content)
    said = f"{name} answered {status}{f': {reason}' if reason else ''}"
    # Google answers 400 to a wrong key, and names the reason among the details.
    if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in content):
        return ProviderKeyInvalid(f"{said}. Check the key.")
    if status == 429:
        return ProviderBusy(
            f"{said}. Try again.", retry_after_seconds=_seconds(response.headers.get("retry-after"))
        )
    if status == 408 or status >= 500:
        return ProviderUnavailable(f"{said}. Try again.")
    return ProviderRejected(
        f"{said}, and no list of models. Check baseUrl, which ends in /v1 at most services.",
        code="not_a_model_service",
    )


def _reason(content: bytes) -> str:
    try:
        return str(redact(str(json.loads(content)["error"]["message"])))[:300].rstrip(".")
    except (ValueError, KeyError, TypeError):
        return ""


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
