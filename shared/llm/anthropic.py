"""Claude, by Anthropic's Messages API (platform.claude.com/docs/en/api/messages, 2026-11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from shared.llm.base import Completion, JsonSchema, Turn
from shared.llm.http_model import HttpModel

ADDRESS = "https://api.anthropic.com"
# Since this version a question with temperature, top_p or top_k is refused; we send none.
VERSION = "2026-10-21"
MOST_COMPLETION_TOKENS = 16_000  # the API wants a bound; an answer is far below it
# What its schemas do not know; the answer is checked where it is read.
_UNKNOWN = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
                      "maxLength", "maxItems", "uniqueItems"])  # fmt: skip


class _Block(BaseModel):
    type: str
    text: str = ""


class _Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(BaseModel):
    content: list[_Block]
    usage: _Usage


class Anthropic(HttpModel):
    """One Claude model under one key. `base_url` None: Anthropic's own address.

    With `is_vendor` it is Anthropic who answers there and who sends the bill, perhaps behind a proxy.
    """

    generator = "anthropic"

    def __init__(
        self,
        model: str,
        api_key: SecretStr,
        base_url: str | None = None,
        *,
        is_vendor: bool = True,
        public_only: bool = False,
    ) -> None:
        self.base_url = (base_url or ADDRESS).rstrip("/").removesuffix("/v1")
        headers = {"x-api-key": api_key.get_secret_value(), "anthropic-version": VERSION}
        vendor = "anthropic" if is_vendor else None
        super().__init__(
            f"{self.base_url}/v1/messages", model, headers, vendor=vendor, public_only=public_only
        )

    def body(self, turns: Sequence[Turn], json_schema: JsonSchema | None) -> dict[str, Any]:
        user = "\n\n".join(turn.content for turn in turns if turn.role == "user")
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": MOST_COMPLETION_TOKENS,
            "messages": [{"role": "user", "content": user}],
        }
        if system := "\n\n".join(turn.content for turn in turns if turn.role == "system"):
            body["system"] = system
        if json_schema is not None:
            # Not a tool that must be called: the newer models refuse to be told so.
            body["output_config"] = {"format": {"type": "json_schema", "schema": known_part(json_schema)}}
        return body

    def read(self, content: bytes) -> Completion:
        message = _Message.model_validate_json(content)
        usage = message.usage
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        return Completion(
            "".join(block.text for block in message.content if block.type == "text"),
            usage.input_tokens + cached,
            usage.output_tokens,
        )


def known_part(schema: Any) -> Any:
    """The schema without the bounds that Anthropic's do not know, every object closed as they must be
    (platform.claude.com/docs/en/build-with-claude/structured-outputs)."""
    if isinstance(schema, list):
        return [known_part(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = {
        key: {name: known_part(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else known_part(value)
        for key, value in schema.items()
        if key not in _UNKNOWN and not (key == "minItems" and value > 1)
    }
    return known | {"additionalProperties": False} if schema.get("type") == "object" else known
