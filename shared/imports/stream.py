"""Pairs from who stores them to who validates them, so that nobody reads them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from shared.db import Row

Pages = AsyncIterator[list[Row]]
_WAITING_PAGES = 2
# What a pair has, as `training_pairs` gives it, that its import does not say.
_UNSAID: Row = {
    "created_at": "1970-01-01T00:00:00+00:00",  # validation asks for no time
    "ordinal": 0,  # nor for a place: pages are in order
    "messages": None, "system_message": None, "user_message": None, "assistant_message": None,
    "rejected_message": None, "is_desirable": None, "tools": None, "metadata": {},
    "quality_score": None, "grounding_score": None, "is_valid": True, "issues": [],
    "review_status": "pending", "document_id": None, "chunk_id": None, "split": None, "cluster_id": None,
}  # fmt: skip


class Validating:
    """A validation that runs while the pairs are stored. One that fails keeps nobody waiting."""

    def __init__(self, validate: Callable[[Pages], Awaitable[dict[str, Any]]]) -> None:
        self._pages: asyncio.Queue[list[Row] | None] = asyncio.Queue(_WAITING_PAGES)
        self._result = asyncio.ensure_future(validate(self._all()))

    async def add(self, pairs: list[Row]) -> None:
        """Pairs that were stored, as an import says them."""
        await self._put([_UNSAID | pair for pair in pairs])

    async def result(self) -> dict[str, Any]:
        """The validation of all that was added. Raises what it raises."""
        await self._put(None)
        return await self._result

    async def cancel(self) -> None:
        """Nothing of it runs any more."""
        self._result.cancel()
        await asyncio.gather(self._result, return_exceptions=True)

    async def _put(self, page: list[Row] | None) -> None:
        putting = asyncio.ensure_future(self._pages.put(page))
        try:
            await asyncio.wait({putting, self._result}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()

    async def _all(self) -> Pages:
        while (page := await self._pages.get()) is not None:
            yield page
