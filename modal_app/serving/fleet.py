"""Models that each live in containers of their own: what the server asks at Modal, in place of an engine."""

from __future__ import annotations

from typing import Any

from modal_app.serving.chat import ChatRequest, Completion


class Fleet:
    """`of` is a class of Modal: `of(weights=...)` has the methods complete and warm."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def complete(self, request: ChatRequest) -> Completion:
        """The answer of the model's container, which is started when there is none."""
        return Completion(**self._of(weights=request.model).complete.remote(request.model_dump()))

    def warm(self, model: str | None) -> None:
        """A container of the model starts; nobody waits for it."""
        if model is not None:
            self._of(weights=model).warm.spawn()
