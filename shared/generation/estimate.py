"""What making a dataset will take, before it is made: tokens counted, answers guessed, prices looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from shared.generation.language_model import Asking, LanguageModelGenerator
from shared.generation.source import Draft, Mode, SourceChunk
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
_REASONING_TOKENS = (40, 250)  # of one pair, likewise
_VERDICT_TOKENS = (15, 80)
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
    asking: Asking | None = None,
    *,
    in_batch: bool = False,
) -> GenerationEstimate:
    """What pairs from chunks of these sizes take. `pairs_of`: how many from the chunk at this place, from 1.

    Without a model nothing is paid.
    """
    count = len(chunk_tokens)
    if model is None:
        return GenerationEstimate(count, (0, 0), (0, 0), (Decimal(0), Decimal(0)), Decimal(0), None)
    asking = asking or Asking()
    prompt = await _tokens_of_empty_prompts(mode, system_prompt, asking)
    readings = 2 if asking.judge else 1  # a judge reads the chunk again, and what was made of it
    asked = [
        (prompt + readings * tokens, pairs)
        for i, tokens in enumerate(chunk_tokens, 1)
        if (pairs := pairs_of(i))
    ]
    read_again, (least, most) = _pair_tokens(mode, asking)
    pairs = sum(pairs for _, pairs in asked)
    fixed = sum(tokens for tokens, _ in asked)
    prompt_low = fixed + pairs * read_again[0]
    prompt_high = int((fixed + pairs * read_again[1]) * _OTHER_VOCABULARY)
    dearest = max(asked, default=(0, 0), key=lambda one: (one[1], one[0]))
    low = _cost(model, prompt_low, pairs * least, in_batch)
    high = _cost(model, prompt_high, pairs * most, in_batch)
    dearest_prompt = int((dearest[0] + dearest[1] * read_again[1]) * _OTHER_VOCABULARY)
    chunk = _cost(model, dearest_prompt, dearest[1] * most, in_batch)
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


def _pair_tokens(mode: Mode, asking: Asking) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a judge reads of one pair, and what is answered for it by all who are asked."""
    least, most = _PAIR_TOKENS[mode]
    if asking.reasoning:
        least, most = least + _REASONING_TOKENS[0], most + _REASONING_TOKENS[1]
    if not asking.judge:
        return (0, 0), (least, most)
    return (least, most), (least + _VERDICT_TOKENS[0], most + _VERDICT_TOKENS[1])


async def _tokens_of_empty_prompts(mode: Mode, system_prompt: str | None, asking: Asking) -> int:
    """Of the questions for one chunk, without the chunk and the pairs."""
    ruler, chunk = _Ruler(), SourceChunk("", 0)
    generator = LanguageModelGenerator(ruler, mode, system_prompt, asking=asking)
    await generator.draft(chunk, 1)
    await generator.judge(chunk, [Draft((("", ""),), 0, 0)])
    return ruler.tokens


class _Ruler:
    """A model that measures what it is asked."""

    name, at_once, tokens = "ruler", 1, 0

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        self.tokens += sum(count_tokens(turn.content) for turn in turns) + count_tokens(
            str(json_schema or "")
        )
        return Completion('{"examples": [], "verdicts": []}')

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
