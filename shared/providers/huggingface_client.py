"""huggingface_hub for the length of one call, and its errors in our words.

The SDK is synchronous and its session waits for ever: calls run in threads of their own, under a timeout
that this module gives to each of their requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import ProviderBusy, ProviderError, ProviderRejected
from shared.keys.store import OpenedKey
from shared.providers.wire import MOST_SECONDS, refusal, silence

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi, JobInfo
    from huggingface_hub.errors import HfHubHTTPError

Result = TypeVar("Result")
request_seconds: ContextVar[float | None] = ContextVar("request_seconds", default=None)  # None: the SDK's own
_MOST_THREADS = 32
_MOST_NAMES = 10_000
_OTHERS_SECONDS = 60.0  # requests of the SDK that nobody here asked for


class HuggingFaceClient:
    """`await client(key, work)` is what `work(api, namespace)` returns, or an error of providers."""

    def __init__(self, endpoint: str | None, timeout_seconds: float, namespace: str | None) -> None:
        self.namespace = namespace  # None: that of the token
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        # Not the loop's: a vendor that hangs would hold up everything else that needs a thread, names too.
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="huggingface")
        self._names: dict[str, str] = {}  # of accounts, by the hash of their token

    async def __call__(
        self,
        key: OpenedKey | None,
        work: Callable[[HfApi, str], Result],
        *,
        not_found: type[ProviderError] = ProviderRejected,
    ) -> Result:
        return await self._in_thread(key, lambda api: work(api, self._namespace(api)), not_found)

    async def whoami(self, key: OpenedKey) -> dict[str, Any]:
        """Whose token it is, asked anew."""
        return await self._in_thread(key, lambda api: api.whoami(), ProviderRejected)

    async def _in_thread(
        self, key: OpenedKey | None, work: Callable[[HfApi], Result], not_found: type[ProviderError]
    ) -> Result:
        import httpx2
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        assert key is not None, "training with Hugging Face needs a key"
        if key.base_url is not None:
            raise ProviderRejected(
                "A Hugging Face token has no address of its own. Set it again without one.",
                code="base_url_not_supported",
            )
        _bound_requests()
        api = HfApi(endpoint=self._endpoint, token=key.api_key.get_secret_value())
        context = copy_context()
        context.run(request_seconds.set, self._timeout_seconds)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, context.run, work, api)
        except HfHubHTTPError as error:
            raise _refusal(error, key, not_found) from None
        # The last three: an answer that is no JSON, or not the SDK's idea of it.
        except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            raise silence("Hugging Face", error) from None

    def _namespace(self, api: HfApi) -> str:
        """Asked for once a token: the SDK would do so at each call, and the answer is rationed."""
        if self.namespace is not None:
            return self.namespace
        token = hashlib.sha256(str(api.token).encode()).hexdigest()
        if token not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[token] = str(api.whoami()["name"])
        return self._names[token]


def listed_jobs(api: HfApi, namespace: str, labels: Mapping[str, str]) -> list[JobInfo]:
    """All jobs that have these labels.

    Not by the SDK's `list_jobs`, which repeats a failed request five times and sleeps as long as it is told.
    """
    from huggingface_hub import JobInfo, get_session, hf_raise_for_status

    url: str | None = f"{api.endpoint}/api/jobs/{namespace}"
    asked: dict[str, list[str]] | None = {"label": [f"{name}={value}" for name, value in labels.items()]}
    headers = {"authorization": f"Bearer {api.token}"}
    jobs: list[JobInfo] = []
    while url is not None:
        answer = get_session().get(url, params=asked, headers=headers)
        hf_raise_for_status(answer)
        jobs += [JobInfo(**job, endpoint=api.endpoint) for job in answer.json()]
        url, asked = answer.links.get("next", {}).get("url"), None  # the next address holds the question
    return jobs


@lru_cache(maxsize=1)
def _bound_requests() -> None:
    """From now on requests of the SDK in this process end in time."""
    import httpx2
    from huggingface_hub import set_client_factory

    def bound(request: httpx2.Request) -> None:
        seconds = request_seconds.get()
        if seconds is not None:
            request.extensions["timeout"] = httpx2.Timeout(seconds).as_dict()

    set_client_factory(
        lambda: httpx2.Client(
            event_hooks={"request": [bound]}, follow_redirects=True, timeout=_OTHERS_SECONDS
        )
    )


def _refusal(error: HfHubHTTPError, key: OpenedKey, not_found: type[ProviderError]) -> ProviderError:
    response = error.response
    status = response.status_code
    body = response.text if response.is_closed else ""  # the log of a job is a stream
    found = refusal("Hugging Face", status, body, headers=response.headers, key=key.api_key)
    if status == 404:
        return not_found(found.message)
    if isinstance(found, ProviderBusy) and found.retry_after_seconds is None:
        resets = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))  # '"api";r=0;t=55'
        return ProviderBusy(found.message, retry_after_seconds=float(resets[1]) if resets else None)
    return found
