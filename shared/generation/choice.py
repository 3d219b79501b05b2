"""Which generator a dataset asks for, under whose key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.config import Settings
from shared.db import Database, Row
from shared.errors import InvalidRequest
from shared.generation.answers import KeptAnswers
from shared.generation.extractive.generator import ExtractiveGenerator
from shared.generation.language_model import Asking, LanguageModelGenerator
from shared.generation.prompt_set import Prompts
from shared.generation.source import Generator, Mode
from shared.keys.crypto import derive
from shared.keys.store import KeyStore, OpenedKey
from shared.llm.anthropic import Anthropic
from shared.llm.base import ChatModel
from shared.llm.gemini import Gemini
from shared.llm.http_model import HttpModel
from shared.llm.openai_compatible import OpenAICompatible
from shared.llm.pace import Paced

GeneratorName = Literal["extractive", "gemini", "anthropic", "openai_compatible"]


class Generation(BaseModel):
    """How the pairs of a dataset are made: the column `generation`."""

    model_config = ConfigDict(frozen=True)

    generator: GeneratorName = "extractive"
    model: str | None = None  # None: the server's default of this generator
    pairs_per_chunk: int = Field(default=3, ge=1, le=10)
    max_pairs: int | None = Field(default=None, ge=1)  # None: as many as the chunks give
    fresh: bool = False  # no answer that another dataset has paid for is taken
    batch: bool = False  # the vendor answers within a day, at half the price
    audiences: tuple[str, ...] = ()  # whom a model writes for, chunk by chunk; empty: as its prompt says
    styles: tuple[str, ...] = ()  # how it answers, likewise
    reasoning: bool = False  # whether each answer comes with the thoughts before it
    judge: bool = False  # whether a second call says if each answer is supported
    include_flagged: bool = False  # also chunks that seem to speak to models, without what does
    min_chunk_quality: float | None = Field(default=None, ge=0, le=1)  # None: chunks of any quality

    def asking(self, prompts: Prompts | None = None) -> Asking:
        """How a model is asked; with the prompts of the files, or those of a project."""
        return Asking(prompts or Prompts(), self.audiences, self.styles, self.reasoning, self.judge)

    def quota(self, ordinal: int, chunk_count: int) -> int:
        """Pairs to make from the chunk at this place (from 1), so that all together keep to max_pairs."""
        if self.max_pairs is None:
            return self.pairs_per_chunk
        share = self.max_pairs * ordinal // chunk_count - self.max_pairs * (ordinal - 1) // chunk_count
        return min(self.pairs_per_chunk, share)


async def open_model(
    generation: Generation, *, user_id: UUID | None, keys: KeyStore, settings: Settings
) -> HttpModel | None:
    """The model that is asked, under the user's own key or else the server's; None: none is.

    Calls no vendor. Raises InvalidRequest when a key, an address or a model is missing.
    """
    if generation.generator == "extractive":
        return None
    return await _OPEN[generation.generator](generation.model, user_id, keys, settings)


def generator_of(
    model: HttpModel | None,
    generation: Generation,
    around: Callable[[ChatModel], Generator],
    mode: Mode,
    kept: tuple[Database, Row],
) -> Generator:
    """What makes the pairs of a dataset; answers are `kept` in this database, for this row of it. A model is
    asked at the pace that it takes, and no question twice."""
    if model is None:
        return ExtractiveGenerator(mode)
    return around(KeptAnswers(Paced(model), model, *kept, fresh=generation.fresh))


def generator_around(
    asked: ChatModel,
    mode: Mode,
    system_prompt: str | None,
    asking: Asking,
    *,
    project_id: UUID,
    settings: Settings,
) -> Generator:
    """What asks this model; the same chunk of the same project gets the same prompt each time."""
    secret = derive(settings.api_key_encryption_secret, f"prompt-marks/{project_id}")
    return LanguageModelGenerator(asked, mode, system_prompt, secret, asking)


async def _gemini(model: str | None, user_id: UUID | None, keys: KeyStore, settings: Settings) -> HttpModel:
    own = await keys.open(user_id, "gemini") if user_id else None
    api_key = own.api_key if own else settings.gemini_api_key
    if api_key is None:
        raise _missing("gemini", "Set your key with manage-api-keys, or choose the generator extractive.")
    return Gemini(model or settings.gemini_model, api_key, settings.gemini_base_url)


async def _anthropic(
    model: str | None, user_id: UUID | None, keys: KeyStore, settings: Settings
) -> HttpModel:
    own = await keys.open(user_id, "anthropic") if user_id else None
    api_key = own.api_key if own else settings.anthropic_api_key
    if api_key is None:
        raise _missing("anthropic", "Set your key with manage-api-keys, or choose the generator extractive.")
    base_url, public_only = _address(own, settings.anthropic_base_url, settings)
    is_vendor = own is None or own.base_url is None
    name = model or settings.anthropic_model
    return Anthropic(name, api_key, base_url, is_vendor=is_vendor, public_only=public_only)


async def _openai_compatible(
    model: str | None, user_id: UUID | None, keys: KeyStore, settings: Settings
) -> HttpModel:
    own = await keys.open(user_id, "openai_compatible") if user_id else None
    base_url, public_only = _address(own, settings.openai_compatible_base_url, settings)
    if base_url is None:
        raise _missing(
            "openai_compatible",
            "Set a key with its baseUrl with manage-api-keys, or choose the generator extractive.",
        )
    name = model or settings.openai_compatible_model
    if name is None:
        raise InvalidRequest(
            "Name the model that the service shall use: `model`.",
            code="model_missing",
            details={"generator": "openai_compatible"},
        )
    api_key = own.api_key if own else settings.openai_compatible_api_key
    return OpenAICompatible(base_url, name, api_key, public_only=public_only)


def _address(own: OpenedKey | None, by_server: str | None, settings: Settings) -> tuple[str | None, bool]:
    """Where the service answers (None: where its vendor does), and whether only public addresses may be
    reached there: those that a user chose."""
    if own is not None and own.base_url is not None:
        return own.base_url, not settings.reaches_private_addresses
    return by_server, False


def _missing(provider: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(
        f"The generator {provider} needs a key. {remedy}",
        code="api_key_missing",
        details={"provider": provider},
    )


_OPEN = {"gemini": _gemini, "anthropic": _anthropic, "openai_compatible": _openai_compatible}
