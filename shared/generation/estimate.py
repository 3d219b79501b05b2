"""What making a dataset will take, before it is made: tokens counted, answers guessed, prices looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from shared.generation.language_model import LanguageModelGenerator
from shared.generation.source import Mode, SourceChunk
from shared.llm.base import Completion, JsonSchema, Turn
from shared.llm.http_model import HttpModel
from shared.llm.prices import price_source
from shared.tokens import count_tokens

# Tokens of the answer for one pair. Not measured at a vendor: a terse and a rich pair with its quote, in
# JSON; a conversation has up to four turns.
_PAIR_TOKENS: dict[Mode, tuple[int, int]] = {
    "auto": (60, 350),
    "qa": (60, 250),
    "instruction": (80, 350),
    "conversation": (150, 800),
}
# Every vendor counts by a vocabulary of its own; ours is OpenAI's.
_OTHER_VOCABULARY = Decimal("1.35")
_MICRO_DOLLAR = Decimal("0.000001")


@dataclass(frozen=True)
class GenerationEstimate:
    """Ranges, low and high. `cost_usd` None: no price is known. `chunk_cost_usd`: the most for one chunk."""

    chunk_count: int
    prompt_tokens: tuple[int, int]
    completion_tokens: tuple[int, int]
    cost_usd: tuple[Decimal, Decimal] | None
    chunk_cost_usd: Decimal | None
    price_source: str | None  # None: nobody is paid
    notes: tuple[str, ...] = ()


async def estimate_generation(
    model: HttpModel | None,
    mode: Mode,
    system_prompt: str | None,
    chunk_tokens: Sequence[int],
    pairs_of: Callable[[int], int],
    *,
    in_batch: bool = False,
) -> GenerationEstimate:
    """What pairs from chunks of these sizes take. `pairs_of`: how many from the chunk at this place, from 1.

    Without a model nothing is paid.
    """
    count = len(chunk_tokens)
    if model is None:
        return GenerationEstimate(count, (0, 0), (0, 0), (Decimal(0), Decimal(0)), Decimal(0), None)
    prompt = await _tokens_of_an_empty_prompt(mode, system_prompt)
    asked = [(prompt + tokens, pairs) for i, tokens in enumerate(chunk_tokens, 1) if (pairs := pairs_of(i))]
    least, most = _PAIR_TOKENS[mode]
    prompt_low = sum(tokens for tokens, _ in asked)
    prompt_high = int(prompt_low * _OTHER_VOCABULARY)
    pairs = sum(pairs for _, pairs in asked)
    dearest = max(asked, default=(0, 0), key=lambda one: (one[1], one[0]))
    low = _cost(model, prompt_low, pairs * least, in_batch)
    high = _cost(model, prompt_high, pairs * most, in_batch)
    chunk = _cost(model, int(dearest[0] * _OTHER_VOCABULARY), dearest[1] * most, in_batch)
    unknown = f"No price is known for {model.model} there: its cost is not counted, and no cap can hold it."
    return GenerationEstimate(
        chunk_count=count,
        prompt_tokens=(prompt_low, prompt_high),
        completion_tokens=(pairs * least, pairs * most),
        cost_usd=None if low is None or high is None else (low, high),
        chunk_cost_usd=chunk,
        price_source=price_source(),
        notes=() if high is not None else (unknown,),
    )


async def _tokens_of_an_empty_prompt(mode: Mode, system_prompt: str | None) -> int:
    ruler = _Ruler()
    await LanguageModelGenerator(ruler, mode, system_prompt).draft(SourceChunk("", 0), 1)
    return ruler.tokens


class _Ruler:
    """A model that measures what it is asked."""

    name, at_once, tokens = "ruler", 1, 0

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        self.tokens += sum(count_tokens(turn.content) for turn in turns) + count_tokens(
            str(json_schema or "")
        )
        return Completion('{"examples": []}')

    async def close(self) -> None:
        pass


def _cost(model: HttpModel, prompt_tokens: int, completion_tokens: int, in_batch: bool) -> Decimal | None:
    """Of calls that are each far below the size from which on some vendors ask more; up to the micro-dollar,
    which the rows keep."""
    prompt = model.cost_usd(1000, 0, in_batch=in_batch)
    completion = model.cost_usd(0, 1000, in_batch=in_batch)
    if prompt is None or completion is None:
        return None
    usd = (prompt * prompt_tokens + completion * completion_tokens) / 1000
    return usd.quantize(_MICRO_DOLLAR, ROUND_CEILING)
