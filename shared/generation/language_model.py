"""Pairs from a language model: the prompt, and what is made of the answer."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from string import Template
from typing import Any

import json_repair
from pydantic import BaseModel, Field, ValidationError

from shared.errors import ProviderUnavailable
from shared.generation.source import Draft, Drafts, Mode, SourceChunk
from shared.llm.base import ChatModel, Turn

_PROMPTS = Path(__file__).parent / "prompts"
_MAX_TURNS = 6
_MAX_ANSWER_CHARS = 200_000  # beyond it a repair is not worth its time

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "examples": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "turns": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"user": {"type": "string"}, "assistant": {"type": "string"}},
                            "required": ["user", "assistant"],
                            "additionalProperties": False,
                        },
                    },
                    "quote": {"type": "string"},
                },
                "required": ["turns", "quote"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["examples"],
    "additionalProperties": False,
}


class _Turn(BaseModel):
    user: str
    assistant: str


class _Example(BaseModel):
    turns: list[_Turn] = Field(min_length=1, max_length=_MAX_TURNS)
    quote: str = ""


class LanguageModelGenerator:
    """Asks a chat model for pairs. What the chunk says stays data: fenced, in the user's turn.

    `secret` makes the marks in its prompts: with the same one the same chunk gets the same prompt again.
    """

    def __init__(
        self, model: ChatModel, mode: Mode, system_prompt: str | None, secret: bytes | None = None
    ) -> None:
        self._model = model
        self._mode = mode
        self._system_prompt = system_prompt
        self._secret = secret or secrets.token_bytes(32)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def at_once(self) -> int:
        return self._model.at_once

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the prompt files of the mode, shortened: equal prompts, equal hash."""
        files = ("rules", self._mode, "source")
        return hashlib.sha256("\0".join(map(_prompt, files)).encode()).hexdigest()[:16]

    async def draft(self, chunk: SourceChunk, count: int) -> Drafts:
        canary = self._mark("canary", chunk)
        answer = await self._model.complete(self._turns(chunk, count, canary), json_schema=SCHEMA)
        drafts, refused = read_answer(answer.text, chunk, count, canary)
        return Drafts(drafts, refused, answer.prompt_tokens, answer.completion_tokens)

    async def close(self) -> None:
        await self._model.close()

    def _turns(self, chunk: SourceChunk, count: int, canary: str) -> list[Turn]:
        style = f"- The assistant works under this instruction: {self._system_prompt}\n"
        rules = Template(_prompt("rules")).substitute(
            task=_prompt(self._mode).strip(),
            count=count,
            style=style if self._system_prompt else "",
            canary=canary,
        )
        # The fence cannot be closed from inside: its id depends on all that is in it, and on our secret.
        source = Template(_prompt("source")).substitute(
            section=" > ".join(chunk.heading_path), content=chunk.content, fence=self._mark("fence", chunk)
        )
        return [Turn("system", rules), Turn("user", source)]

    def _mark(self, purpose: str, chunk: SourceChunk) -> str:
        """Sixteen digits that nobody else can tell: equal for an equal chunk, so that an answer that was paid
        for is found again; others for another `variant` of it."""
        about = f"{purpose}\0{chunk.variant}\0{chunk.content}"
        return hmac.new(self._secret, about.encode(), hashlib.sha256).hexdigest()[:16]


def read_answer(text: str, chunk: SourceChunk, count: int, canary: str) -> tuple[list[Draft], int]:
    """The drafts in a model's answer, and how many of its examples cannot be used.

    An answer that gives the canary away follows somebody else's instructions: all of it is refused.
    Raises ProviderUnavailable when there is no list of examples in it: the next answer may have one.
    """
    examples = _examples(text)
    if canary in text:
        return [], max(1, len(examples))
    drafts = []
    for example in examples[:count]:
        try:
            drafts.append(_draft(_Example.model_validate(example), chunk))
        except ValidationError:
            continue
    return drafts, len(examples) - len(drafts)


def _examples(text: str) -> list[Any]:
    try:
        answer = json_repair.loads(text[:_MAX_ANSWER_CHARS])
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        answer = answer.get("examples", answer.get("pairs"))
    if not isinstance(answer, list):
        raise ProviderUnavailable("The model gave no list of examples.", code="answer_not_understood")
    return answer


def _draft(example: _Example, chunk: SourceChunk) -> Draft:
    start, end = find_quote(example.quote, chunk.content)
    turns = tuple((turn.user, turn.assistant) for turn in example.turns)
    return Draft(turns, chunk.char_start + start, chunk.char_start + end)


def find_quote(quote: str, content: str) -> tuple[int, int]:
    """Where the quote stands, whatever its blanks; the whole content when it does not."""
    words = quote.split()[:200]
    if words:
        found = re.search(r"\s+".join(map(re.escape, words)), content)
        if found:
            return found.span()
    return 0, len(content)


def _prompt(name: str) -> str:
    return (_PROMPTS / f"{name}.md").read_text(encoding="utf-8")
