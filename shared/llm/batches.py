"""Many questions as one batch, answered within a day at half the price: all vendors' alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from shared.errors import ProviderRejected
from shared.llm.base import Completion, TryLater
from shared.llm.http_model import HttpModel, whole_characters
from shared.log import redact

Questions = Mapping[str, dict[str, Any]]  # a name of ours -> the body of a call


@dataclass(frozen=True)
class BatchState:
    """How a batch stands. `files`: addresses of its results, once it has ended."""

    is_ended: bool
    files: tuple[str, ...] = ()
    error: str | None = None  # why it was not processed as a whole; None: it was, or may be


class Batches(Protocol):
    """A vendor's batches. Every method raises TryLater, and ProviderRejected for a definite no."""

    most_questions: int  # of one batch

    async def submit(self, batch_id: str, questions: Questions) -> str:
        """The vendor's id of a new batch. After TryLater nobody knows whether there is one, unless the vendor
        was `too_fast`."""
        ...

    async def find(
        self, batch_id: str, count: int, age_seconds: float, not_ours: Sequence[str]
    ) -> str | None:
        """The vendor's id of the batch that was submitted for ours, of `count` questions, at most
        `age_seconds` ago; None: there is none (yet)."""
        ...

    async def state(self, provider_batch_id: str) -> BatchState: ...

    def results(self, state: BatchState) -> AsyncIterator[tuple[str, Completion | ProviderRejected]]:
        """Each question's name with its answer, or why it has none. What cannot be read is left out."""
        ...

    async def cancel(self, provider_batch_id: str) -> None:
        """What is not answered yet will not be."""
        ...


async def ask(client: HttpModel, method: str, url: str, **options: Any) -> Any:
    """The JSON that the vendor answers. TryLater also for what is none: whatever was asked may be done."""
    _, content = await client.send(method, url, **options)
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise TryLater(f"{client.model} answered in an unknown shape.") from error


async def objects_in(client: HttpModel, file: str) -> AsyncIterator[dict[str, Any]]:
    """The lines of a file of results; what is no JSON object is left out."""
    async for line in client.lines(file):
        try:
            said = orjson.loads(whole_characters(line))
        except ValueError:
            continue
        if isinstance(said, dict):
            yield said


def answer_of(client: HttpModel, body: bytes) -> Completion | ProviderRejected:
    """The answer in the body of one question's response, or that it cannot be read."""
    try:
        return client.completion(body, {})
    except ProviderRejected as unreadable:
        return unreadable


def not_answered(error: Any) -> ProviderRejected:
    """For whatever stands where a vendor writes its error: the message in it, else all of it."""
    message = error.get("message") if isinstance(error, dict) else None
    return ProviderRejected(f"Not answered: {redact(str(message or error))[:300]}", code="not_answered")
