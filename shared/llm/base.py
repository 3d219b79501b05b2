"""What a language model does for pair generation: messages in, text out, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared.errors import ProviderUnavailable
from shared.llm.limits import Limit

JsonSchema = dict[str, Any]
TIMEOUT_SECONDS = 90
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
    completion_tokens: int = 0  # also those that a model thinks with: they are billed
    limits: tuple[Limit, ...] = ()  # what the vendor says that it will still take


class TryLater(ProviderUnavailable):
    """The model is busy or away. `retry_after_seconds`: as it asked; None: it did not say.

    With `too_fast` it is there and takes less than it is asked: what counts is the rate, not the call.
    """

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, too_fast: bool = False
    ) -> None:
        super().__init__(
            message,
            code="model_busy" if too_fast else "model_unavailable",
            retry_after_seconds=retry_after_seconds,
        )
        self.details = {"retryAfterSeconds": self.retry_after_seconds}
        self.too_fast = too_fast


class ChatModel(Protocol):
    """A model that can be asked. Close it when done."""

    @property
    def name(self) -> str:
        """Vendor and model, as pairs remember it: 'gemini/gemini-3.8-flash'."""
        ...

    @property
    def at_once(self) -> int:
        """How many calls it can take at once now."""
        ...

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        """The model's answer; with a schema, JSON of that shape.

        Raises TryLater, and ProviderRejected for a definite no. The clients of vendors try once;
        shared.llm.pace tries again.
        """
        ...

    async def close(self) -> None:
        """No connection is left open."""
        ...
