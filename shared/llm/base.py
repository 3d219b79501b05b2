"""What a language model does for pair generation: messages in, text out, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared.errors import ProviderUnavailable

JsonSchema = dict[str, Any]
TIMEOUT_SECONDS = 90
ATTEMPTS = 3  # of one call; a chunk that fails is tried again later by its lease
MOST_RESPONSE_BYTES = 2_000_000


@dataclass(frozen=True)
class Turn:
    """One message of a prompt. What is not ours to trust goes into the user's turn."""

    role: Literal["system", "user"]
    content: str


@dataclass(frozen=True)
class Completion:
    """What a model answered. Token counts are the vendor's own; 0 when it does not say."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class TryLater(ProviderUnavailable):
    """The model is busy or away. `retry_after_seconds`: as it asked; None: it did not say."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(
            message, code="model_unavailable", details={"retryAfterSeconds": retry_after_seconds}
        )
        self.retry_after_seconds = retry_after_seconds


def refusal_code(status: int) -> str:
    """The code of a definite no: whether it is the key, which holds for every further call."""
    return "api_key_rejected" if status in (401, 403) else "model_refused"


class ChatModel(Protocol):
    """A model that can be asked. Close it when done."""

    @property
    def name(self) -> str:
        """Vendor and model, as pairs remember it: 'gemini/gemini-3.8-flash'."""
        ...

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        """The model's answer; with a schema, JSON of that shape.

        Raises TryLater after a bounded number of attempts, ProviderRejected for a definite no.
        """
        ...

    async def close(self) -> None:
        """No connection is left open."""
        ...
