"""Asks a served model: the local inference server, over its OpenAI-shaped API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from shared.config import Settings
from shared.errors import InvalidRequest, NotFound, ProviderUnavailable


@dataclass(frozen=True)
class Answer:
    """What a model said, and what it took."""

    content: str
    finish_reason: str  # 'stop' or 'length'
    prompt_tokens: int
    completion_tokens: int


async def ask(settings: Settings, model_ref: str, body: dict[str, Any]) -> Answer:
    """The answer of the model at `model_ref`: an artifact directory, or the id of a base model.

    `body` holds messages and sampling as OpenAI names them. Raises ProviderUnavailable, NotFound when
    the weights are gone, InvalidRequest when the prompt is too long.
    """
    if settings.inference_url is None or settings.inference_token is None:
        raise ProviderUnavailable(
            "No inference server is connected. Set FINEFLOW_INFERENCE_URL and FINEFLOW_INFERENCE_TOKEN.",
            code="inference_not_connected",
        )
    headers = {"authorization": f"Bearer {settings.inference_token.get_secret_value()}"}
    try:
        async with httpx.AsyncClient(timeout=settings.inference_timeout_seconds) as http:
            response = await http.post(
                f"{settings.inference_url}/v1/chat/completions",
                headers=headers,
                json=body | {"model": model_ref},
            )
    except httpx.HTTPError as error:
        raise ProviderUnavailable(
            "The inference server did not answer. Try again in a moment.",
            code="inference_unavailable",
            details={"cause": type(error).__name__},
        ) from error
    if response.status_code != httpx.codes.OK:
        raise _refusal(response)
    answer = response.json()
    choice, usage = answer["choices"][0], answer["usage"]
    return Answer(
        content=choice["message"]["content"],
        finish_reason=choice["finish_reason"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def _refusal(response: httpx.Response) -> Exception:
    try:
        error = response.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "inference_unavailable", f"The inference server answered {response.status_code}."
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotFound(message, code=code)
    if response.status_code in (httpx.codes.UNPROCESSABLE_ENTITY, httpx.codes.REQUEST_ENTITY_TOO_LARGE):
        return InvalidRequest(message, code=code)
    return ProviderUnavailable(message, code=code)
