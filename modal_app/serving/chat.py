"""What the inference server takes and gives: OpenAI's chat completion, as far as it is done here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import NotFound
from shared.training.spec import BaseModelId


class Body(BaseModel):
    """What is not done here is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Body):
    """`model` is a directory inside the data directory, the offline base, or a Hub id."""

    model: BaseModelId
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    max_tokens: int = Field(default=256, ge=1, le=2048)
    temperature: float = Field(default=0, ge=0, le=2, description="0: the likeliest token, always.")
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)


class WarmRequest(Body):
    """None: only the libraries."""

    model: BaseModelId | None = None


@dataclass(frozen=True)
class Completion:
    """An answer, and what it took in tokens."""

    content: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int

    def body(self, model: str) -> dict[str, Any]:
        """The completion in OpenAI's shape."""
        message = {"role": "assistant", "content": self.content}
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "total_tokens": self.prompt_tokens + self.completion_tokens,
            },
        }


class Answers(Protocol):
    """Who answers, behind the server."""

    def complete(self, request: ChatRequest) -> Completion:
        """The model's next turn. Raises FineFlowError."""
        ...

    def warm(self, model: str | None) -> None:
        """The model will be asked soon; None: some model will."""
        ...


def weights_of(model: str, data_dir: Path) -> str:
    """A Hub id as it is; a path only inside the data directory, after following links. Raises NotFound."""
    if not model.startswith("/"):
        return model
    path = Path(model).resolve()
    if not path.is_relative_to(data_dir) or not (path / "config.json").is_file():
        raise NotFound(f"There is no model at {model}.", code="model_not_found")
    return str(path)
