"""Any service with OpenAI's chat completions: OpenAI, Ollama, vLLM, OpenRouter and their kin.

Plain aiohttp and not OpenAI's SDK, which reaches a tenth of the possible rate at 500 calls at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import stamina
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from shared.errors import ProviderRejected
from shared.llm.base import (
    ATTEMPTS,
    MOST_RESPONSE_BYTES,
    TIMEOUT_SECONDS,
    Completion,
    JsonSchema,
    TryLater,
    Turn,
    refusal_code,
)
from shared.log import redact
from shared.public_only import PublicResolver, require_public

_BUSY = frozenset({408, 409, 425, 429})
_LONGEST_WAIT_SECONDS = 20.0


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    content: str | None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class OpenAICompatible:
    """One model behind one base address, `.../v1` included.

    `public_only` for an address that a user gave to a hosted server: nothing private is reached then.
    """

    def __init__(
        self, base_url: str, model: str, api_key: SecretStr | None, *, public_only: bool = False
    ) -> None:
        if public_only:
            require_public(base_url)
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model = model
        self._headers = {"authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}
        self._public_only = public_only
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        return f"openai_compatible/{self._model}"

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        }
        if json_schema is not None:
            shape = {"name": "answer", "schema": json_schema, "strict": False}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        # A completion is safe to ask for twice: it costs tokens and changes nothing.
        async for attempt in stamina.retry_context(
            on=_worth_waiting,
            attempts=ATTEMPTS,
            timeout=TIMEOUT_SECONDS,
            wait_initial=0.2,
            wait_jitter=0.5,
            wait_max=8,
        ):
            with attempt:
                return await self._ask(body)
        raise AssertionError("unreachable: retry_context returns or raises")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, body: dict[str, Any]) -> Completion:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=10)
            connector = aiohttp.TCPConnector(resolver=PublicResolver() if self._public_only else None)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout, connector=connector)
        try:
            async with self._session.post(self._url, json=body, allow_redirects=False) as response:
                content = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryLater(f"{self._model} did not answer: {type(error).__name__}.") from error
        if response.status in _BUSY or response.status >= 500:
            wait = _retry_after_seconds(response.headers.get("retry-after"))
            raise TryLater(f"{self._model} is busy ({response.status}).", retry_after_seconds=wait)
        if response.status != 200:
            raise ProviderRejected(
                f"{self._model} refused the call ({response.status}): {_reason(content)}",
                code=refusal_code(response.status),
            )
        return _completion(content, self._model)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        content += piece
        if len(content) > MOST_RESPONSE_BYTES:
            raise ProviderRejected(
                f"The model answered with more than {MOST_RESPONSE_BYTES:,} bytes.",
                code="model_answer_too_large",
            )
    return bytes(content)


def _completion(content: bytes, model: str) -> Completion:
    try:
        answer = _Answer.model_validate_json(content)
        text = answer.choices[0].message.content
    except (ValidationError, IndexError) as error:
        raise ProviderRejected(
            f"{model} answered in an unknown shape.", code="model_answer_unreadable"
        ) from error
    usage = answer.usage or _Usage()
    return Completion(text or "", usage.prompt_tokens, usage.completion_tokens)


def _worth_waiting(error: Exception) -> bool:
    # A longer wait than this is left to the chunk's lease, so that no function sits it out.
    return isinstance(error, TryLater) and (error.retry_after_seconds or 0) <= _LONGEST_WAIT_SECONDS


def _retry_after_seconds(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None  # a date: rare, and the usual backoff does


def _reason(content: bytes) -> str:
    try:
        reason = str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        reason = content.decode(errors="replace")
    return str(redact(reason))[:300]
