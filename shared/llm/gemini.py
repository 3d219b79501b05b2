"""Gemini, through google-genai. The SDK is imported at the first call: it takes a quarter second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.base import ATTEMPTS, TIMEOUT_SECONDS, Completion, JsonSchema, TryLater, Turn, refusal_code
from shared.log import redact

if TYPE_CHECKING:
    from google.genai import Client

_BUSY = frozenset({408, 429})


class Gemini:
    """One Gemini model under one key. `base_url` None: Google's own address."""

    def __init__(self, model: str, api_key: SecretStr, base_url: str | None = None) -> None:
        self._model = model
        self._api_key = api_key
        self._base_url = base_url
        self._client: Client | None = None

    @property
    def name(self) -> str:
        return f"gemini/{self._model}"

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        import httpx2
        from google.genai import errors

        config: dict[str, Any] = {}
        if system := "\n\n".join(turn.content for turn in turns if turn.role == "system"):
            config["system_instruction"] = system
        if json_schema is not None:
            config |= {"response_mime_type": "application/json", "response_json_schema": json_schema}
        contents = "\n\n".join(turn.content for turn in turns if turn.role == "user")
        try:
            answer = await self._connected().aio.models.generate_content(
                model=self._model,
                contents=contents,
                config=config,  # type: ignore[arg-type]  # the SDK takes the dict form of its TypedDict
            )
        except errors.APIError as error:
            if error.code in _BUSY or error.code >= 500:
                wait = _retry_after_seconds(error.details)
                raise TryLater(f"{self._model} is busy ({error.code}).", retry_after_seconds=wait) from error
            # Gemini answers 400 to a wrong key.
            is_key = error.code == 400 and "API key" in (error.message or "")
            raise ProviderRejected(
                f"{self._model} refused the call ({error.code}): {redact(error.message or '')[:300]}",
                code=refusal_code(401 if is_key else error.code),
            ) from error
        # The SDK talks through aiohttp where that is installed, through httpx2 otherwise.
        except (aiohttp.ClientError, httpx2.HTTPError, OSError) as error:
            raise TryLater(f"{self._model} did not answer: {type(error).__name__}.") from error
        usage = answer.usage_metadata
        return Completion(
            answer.text or "",
            (usage and usage.prompt_token_count) or 0,
            (usage and usage.candidates_token_count) or 0,
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aio.aclose()

    def _connected(self) -> Client:
        if self._client is None:
            from google.genai import Client, types

            self._client = Client(
                api_key=self._api_key.get_secret_value(),
                http_options=types.HttpOptions(
                    base_url=self._base_url,
                    timeout=TIMEOUT_SECONDS * 1000,  # milliseconds
                    retry_options=types.HttpRetryOptions(
                        attempts=ATTEMPTS, initial_delay=0.2, max_delay=8, jitter=0.5
                    ),
                ),
            )
        return self._client


def _retry_after_seconds(body: Any) -> float | None:
    """What google.rpc.RetryInfo in an error asks for; None: it is not there."""
    try:
        delays = (detail.get("retryDelay") for detail in body["error"]["details"])
        return next((float(delay.removesuffix("s")) for delay in delays if delay), None)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
