"""The training file at OpenAI: there once, whole, under a name that says what it is."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from shared.errors import ProviderError, ProviderUnavailable
from shared.keys.store import OpenedKey
from shared.providers.openai_client import OpenAIClient
from shared.providers.openai_lenient import read_object
from shared.training.files import TrainingFile

if TYPE_CHECKING:
    from openai import AsyncOpenAI, Omit
    from openai.pagination import AsyncCursorPage
    from openai.types import FileDeleted, FileObject

_PAGE = 1000
_MOST_FILES = 3000  # the newest; a file that lies further back is uploaded again, which harms nobody
_UPLOADS = 2
_BYTES_A_SECOND = 1_000_000  # slower than this, and an upload is given up


async def uploaded(
    client: OpenAIClient, key: OpenedKey | None, file: TrainingFile, idempotency_key: str
) -> str:
    """The id of a file with this content, from an earlier start of the job or uploaded now.

    Raises ProviderUnavailable when what arrived was too short, twice.
    """
    name = f"{idempotency_key}-{file.sha256}.jsonl"
    size = len(file.content)
    found = await _earlier(client, key, name, size)
    if found is not None:
        return found
    arrived = 0
    for _ in range(_UPLOADS):
        stored = await _upload(client, key, name, file.content)
        if stored.bytes == size:
            return stored.id
        arrived = stored.bytes or 0
        with suppress(ProviderError):  # it is not used, whether it can be deleted or not
            await client.ask(key, partial(_delete, file_id=stored.id), attempts=1)
    raise ProviderUnavailable(
        f"The training file has {size:,} bytes; at the provider arrived {arrived:,}.", code="upload_truncated"
    )


async def _earlier(client: OpenAIClient, key: OpenedKey | None, name: str, size: int) -> str | None:
    from openai.types import FileObject

    async def fetch(sdk: AsyncOpenAI, after: str | Omit) -> AsyncCursorPage[FileObject]:
        return await sdk.files.list(purpose="fine-tune", after=after, limit=_PAGE, order="desc")

    files: list[FileObject] = await client.collect(key, fetch, FileObject, most=_MOST_FILES)
    matching = (file for file in files if (file.filename, file.bytes) == (name, size))
    return next((file.id for file in matching if file.status != "error"), None)


async def _upload(client: OpenAIClient, key: OpenedKey | None, name: str, content: bytes) -> FileObject:
    from openai.types import FileObject

    seconds = client.timeout_seconds + len(content) / _BYTES_A_SECOND

    def otherwise(body: object) -> FileObject | None:
        return read_object(FileObject, body, ("id",))

    async def send(sdk: AsyncOpenAI) -> FileObject:
        file = (name, content, "application/jsonl")
        return await sdk.files.create(file=file, purpose="fine-tune", timeout=seconds)

    return await client.ask(key, send, attempts=1, seconds=seconds, otherwise=otherwise)


async def _delete(sdk: AsyncOpenAI, file_id: str) -> FileDeleted:
    return await sdk.files.delete(file_id)
