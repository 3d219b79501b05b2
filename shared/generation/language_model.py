"""Pairs from a language model: how it is asked, for examples and for a verdict on them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.generation.judge import SCHEMA as JUDGE_SCHEMA
from shared.generation.judge import examples_to_judge, read_verdicts
from shared.generation.model_answer import examples_schema, read_answer, shape_of
from shared.generation.prompt_set import Prompts
from shared.generation.source import Draft, Drafts, Mode, SourceChunk, Verdicts
from shared.generation.variety import Variety
from shared.llm.base import ChatModel, Turn


@dataclass(frozen=True)
class Asking:
    """How a dataset wants a model to be asked. Empty audiences or styles: those of the prompt `variety`."""

    prompts: Prompts = field(default_factory=Prompts)
    audiences: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    reasoning: bool = False  # whether each answer comes with the thoughts before it
    judge: bool = False  # whether a second call says if each answer is supported


class LanguageModelGenerator:
    """Asks a chat model for pairs. What the chunk says stays data: fenced, in the user's turn.

    `secret` makes the marks in its prompts: with the same one the same chunk gets the same prompt again.
    """

    def __init__(
        self,
        model: ChatModel,
        mode: Mode,
        system_prompt: str | None,
        secret: bytes | None = None,
        asking: Asking | None = None,
    ) -> None:
        self._model = model
        self._mode = mode
        self._system_prompt = system_prompt
        self._secret = secret or secrets.token_bytes(32)
        self._asking = asking or Asking()
        self._prompts = self._asking.prompts
        self._variety = Variety.of(self._prompts, self._asking.audiences, self._asking.styles)
        self._schema = examples_schema(reasoning=self._asking.reasoning)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def at_once(self) -> int:
        return self._model.at_once

    @property
    def prompt_hash(self) -> str:
        """Of the prompts and the options that pairs come from: equal prompts, equal hash."""
        names = ["rules", self._mode, "source", "variety", *(["reasoning"] if self._asking.reasoning else [])]
        return self._prompts.hash(names, self._asking.audiences, self._asking.styles)

    async def draft(self, chunk: SourceChunk, count: int) -> Drafts:
        marks = (self._mark("canary", chunk), self._mark("fence", chunk))
        answer = await self._model.complete(self._turns(chunk, count, *marks), json_schema=self._schema)
        rules = self._prompts.text("rules")
        drafts, refused = read_answer(
            answer.text, chunk, count, marks, rules=rules, reasoning=self._asking.reasoning
        )
        return Drafts(drafts, refused, answer.prompt_tokens, answer.completion_tokens)

    async def judge(self, chunk: SourceChunk, drafts: Sequence[Draft]) -> Verdicts:
        if not self._asking.judge or not drafts:
            return Verdicts()
        examples = examples_to_judge(drafts)
        canary, fence = (self._mark(purpose, chunk, examples) for purpose in ("canary", "fence"))
        turns = [
            Turn("system", self._prompts.filled("judge", shape=shape_of(JUDGE_SCHEMA), canary=canary)),
            Turn(
                "user",
                self._prompts.filled(
                    "judge_source",
                    section=" > ".join(chunk.heading_path),
                    content=chunk.shown,
                    examples=examples,
                    fence=fence,
                ),
            ),
        ]
        answer = await self._model.complete(turns, json_schema=JUDGE_SCHEMA)
        rules = self._prompts.text("judge")
        verdicts = read_verdicts(answer.text, len(drafts), (canary, fence), rules)
        return Verdicts(verdicts, answer.prompt_tokens, answer.completion_tokens)

    async def close(self) -> None:
        await self._model.close()

    def _turns(self, chunk: SourceChunk, count: int, canary: str, fence: str) -> list[Turn]:
        style = f"- The assistant works under this instruction, which goes first: {self._system_prompt}\n"
        rules = self._prompts.filled(
            "rules",
            task=self._prompts.text(self._mode).strip(),
            count=count,
            shape=shape_of(self._schema),
            variety=f"{self._variety.for_chunk(chunk.ordinal)}\n",
            reasoning=self._prompts.text("reasoning") if self._asking.reasoning else "",
            style=style if self._system_prompt else "",
            canary=canary,
        )
        # The fence cannot be closed from inside: its id depends on all that is in it, and on our secret.
        source = self._prompts.filled(
            "source", section=" > ".join(chunk.heading_path), content=chunk.shown, fence=fence
        )
        return [Turn("system", rules), Turn("user", source)]

    def _mark(self, purpose: str, chunk: SourceChunk, examples: str = "") -> str:
        """Sixteen digits that nobody else can tell: equal for an equal chunk, so that an answer that was paid
        for is found again; others for another `variant` of it."""
        about = f"{purpose}\0{chunk.variant}\0{chunk.content}\0{examples}"
        return hmac.new(self._secret, about.encode(), hashlib.sha256).hexdigest()[:16]
