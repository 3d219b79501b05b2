"""Files in Supabase Storage, as the service."""

from __future__ import annotations

import httpx
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from shared.errors import NotFound, ServiceUnavailable


class Storage:
    """Whole files in and out of a bucket; each bucket limits their size."""

    def __init__(self, url: str, *, api_key: str, bearer: str, http: httpx.AsyncClient) -> None:
        self._client = AsyncStorageClient(
            f"{url.rstrip('/')}/storage/v1/",
            headers={"apikey": api_key, "Authorization": f"Bearer {bearer}"},
            http_client=http,
        )

    async def download(self, bucket: str, path: str) -> bytes:
        """The bytes of a file. Raises NotFound, or ServiceUnavailable when storage does not answer."""
        try:
            return bytes(await self._client.from_(bucket).download(path))
        except StorageApiError as error:
            raise NotFound(
                f"There is no file at {bucket}/{path}. Upload it first, then add its row.",
                code="file_not_found",
            ) from error
        except httpx.HTTPError as error:
            raise _unavailable(error) from error

    async def upload(self, bucket: str, path: str, content: bytes, content_type: str) -> None:
        """The file is there with this content; one that was there is replaced."""
        try:
            await self._client.from_(bucket).upload(
                path, content, {"content-type": content_type, "upsert": "true"}
            )
        except (httpx.HTTPError, StorageApiError) as error:
            raise _unavailable(error) from error

    async def signed_url(self, bucket: str, path: str, *, expires_in_seconds: int) -> str:
        """An address that anyone may download from until it expires."""
        try:
            signed = await self._client.from_(bucket).create_signed_url(path, expires_in_seconds)
        except (httpx.HTTPError, StorageApiError) as error:
            raise _unavailable(error) from error
        return str(signed["signedURL"])


def _unavailable(error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The file store did not answer. Try again in a moment.",
        code="storage_unavailable",
        details={"cause": type(error).__name__},
    )
