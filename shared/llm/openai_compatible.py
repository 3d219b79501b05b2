"""Any service with OpenAI's chat completions: OpenAI, Ollama, vLLM, OpenRouter and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from shared.llm.base import Completion, JsonSchema, Turn
from shared.llm.http_model import HttpModel


class _Message(BaseModel):
    content: str | None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class OpenAICompatible(HttpModel):
    """One model behind one base address, `.../v1` included."""

    generator = "openai_compatible"

    def __init__(
        self, base_url: str, model: str, api_key: SecretStr | None, *, public_only: bool = False
    ) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}
        super().__init__(f"{self.base_url}/chat/completions", model, headers, public_only=public_only)

    def body(self, turns: Sequence[Turn], json_schema: JsonSchema | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        }
        if json_schema is not None:
            shape = {"name": "answer", "schema": json_schema, "strict": False}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        return body

    def read(self, content: bytes) -> Completion:
        answer = _Answer.model_validate_json(content)
        usage = answer.usage or _Usage()
        return Completion(
            answer.choices[0].message.content or "", usage.prompt_tokens, usage.completion_tokens
        )
