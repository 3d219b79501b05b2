"""Files in Supabase Storage, as whoever holds the bearer token: the service, or a user under RLS."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import stamina
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError
from storage3.types import CreateSignedUploadUrlOptions, FileOptions

from shared.errors import NotFound, PayloadTooLarge, ServiceUnavailable

_PIECE_BYTES = 2**20


class Storage:
    """Whole files in and out of a bucket; each bucket limits their size."""

    def __init__(self, url: str, *, api_key: str, bearer: str, http: httpx.AsyncClient) -> None:
        self._url = f"{url.rstrip('/')}/storage/v1/"
        self._headers = {"apikey": api_key, "Authorization": f"Bearer {bearer}"}
        self._http = http
        self._client = AsyncStorageClient(self._url, headers=self._headers, http_client=http)

    async def download(self, bucket: str, path: str) -> bytes:
        """The bytes of a file. Raises NotFound, or ServiceUnavailable when storage does not answer."""
        try:
            return bytes(await self._client.from_(bucket).download(path))
        except StorageApiError as error:
            raise _not_found(bucket, path) from error
        except httpx.HTTPError as error:
            raise _unavailable(error) from error

    async def download_to(self, bucket: str, path: str, target: Path) -> None:
        """The file is here as `target`, with a piece of it in memory at a time; a broken attempt is repeated.

        Raises NotFound, or ServiceUnavailable when storage does not answer.
        """
        try:
            async for attempt in stamina.retry_context(
                on=_is_worth_repeating, attempts=3, timeout=None, wait_initial=0.2, wait_max=2
            ):
                with attempt:
                    await self._fetch(f"object/{bucket}/{quote(path)}", target)
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise _not_found(bucket, path) from error
            raise _unavailable(error) from error
        except httpx.HTTPError as error:
            raise _unavailable(error) from error

    async def _fetch(self, address: str, target: Path) -> None:
        async with self._http.stream("GET", self._url + address, headers=self._headers) as response:
            response.raise_for_status()
            with target.open("wb") as file:
                async for piece in response.aiter_bytes(_PIECE_BYTES):
                    await asyncio.to_thread(file.write, piece)

    async def upload(self, bucket: str, path: str, content: bytes | Path, content_type: str) -> None:
        """The file is there with this content, whole or not at all; one that was there is replaced.

        content: the bytes, or a file here, which is read while it is sent. A broken attempt is repeated: the
        same bytes come to the same place. Raises PayloadTooLarge over the limit of the bucket, and
        ServiceUnavailable.
        """
        options: FileOptions = {"content-type": content_type, "upsert": "true"}
        try:
            async for attempt in stamina.retry_context(
                on=_is_worth_repeating, attempts=3, timeout=None, wait_initial=0.2, wait_max=2
            ):
                with attempt:
                    await self._client.from_(bucket).upload(path, content, options)
        except StorageApiError as error:
            if str(error.status) == "413":
                raise PayloadTooLarge(
                    f"The file is larger than the bucket {bucket} takes.", code="file_too_large"
                ) from error
            raise _unavailable(error) from error
        except httpx.HTTPError as error:
            raise _unavailable(error) from error

    async def remove(self, bucket: str, paths: Sequence[str]) -> None:
        """The files are gone, also those that were not there. A broken attempt is repeated.

        paths: 1,000 at most. Raises ServiceUnavailable, when some may be gone.
        """
        try:
            async for attempt in stamina.retry_context(
                on=_is_worth_repeating, attempts=3, timeout=None, wait_initial=0.2, wait_max=2
            ):
                with attempt:
                    await self._client.from_(bucket).remove(list(paths))
        except (httpx.HTTPError, StorageApiError) as error:
            raise _unavailable(error) from error

    async def signed_url(self, bucket: str, path: str, *, expires_in_seconds: int) -> str:
        """An address that anyone may download from until it expires. Raises NotFound, ServiceUnavailable."""
        try:
            signed = await self._client.from_(bucket).create_signed_url(path, expires_in_seconds)
        except StorageApiError as error:
            if str(error.status) == "404":
                raise _not_found(bucket, path) from error
            raise _unavailable(error) from error
        except httpx.HTTPError as error:
            raise _unavailable(error) from error
        return str(signed["signedURL"])

    async def signed_upload_url(self, bucket: str, path: str) -> str:
        """An address that anyone may put this one file at, again and again, for two hours."""
        options = CreateSignedUploadUrlOptions(upsert="true")
        try:
            signed = await self._client.from_(bucket).create_signed_upload_url(path, options)
        except (httpx.HTTPError, StorageApiError) as error:
            raise _unavailable(error) from error
        return str(signed["signed_url"])


def _is_worth_repeating(error: Exception) -> bool:
    if isinstance(error, StorageApiError):
        return str(error.status) in ("500", "502", "503", "504")
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (500, 502, 503, 504)
    return isinstance(error, httpx.TransportError)


def _not_found(bucket: str, path: str) -> NotFound:
    return NotFound(
        f"There is no file at {bucket}/{path}. Upload it first, then add its row.", code="file_not_found"
    )


def _unavailable(error: Exception) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The file store did not answer. Try again in a moment.",
        code="storage_unavailable",
        details={"cause": type(error).__name__},
    )
