"""What clients of models over HTTP have in common: one question is one POST, and what its status means.

Plain aiohttp and not the vendors' SDKs, which reach about a fifth of the possible rate at 500 calls at
once (`make bench NAME=generate`); and one client for all is less to know.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import aiohttp
import orjson
from pydantic import ValidationError

from shared.errors import ProviderRejected
from shared.llm.base import MOST_RESPONSE_BYTES, TIMEOUT_SECONDS, Completion, JsonSchema, TryLater, Turn
from shared.llm.limits import limits_of, retry_after_seconds
from shared.llm.prices import BATCH_SHARE, inference_cost_usd
from shared.log import redact
from shared.public_only import PublicResolver, require_public

_JSON = {"content-type": "application/json"}
_FILE_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10, sock_read=60)
_AWAY = frozenset({408, 409, 425})  # and every 5xx, Anthropic's 529 (overloaded) among them
# A 429 or 403 that no waiting helps: there is no money left (the vendors' pages of error codes, 2026-11).
_NO_MONEY = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_error",
                       "billing_hard_limit_reached", "enforced_spend_limit_reached"})  # fmt: skip
# A surrogate without its other half, escaped in JSON.
_HALF_CHARACTER = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class HttpModel:
    """One model behind one address, asked once a call.

    `public_only` for an address that a user gave to a hosted server: nothing private is reached then.
    """

    generator: ClassVar[str]  # how the rows and the settings call the service
    at_once = 1  # more is the business of shared.llm.pace

    def __init__(
        self,
        url: str,
        model: str,
        headers: Mapping[str, str],
        *,
        vendor: str | None = None,
        public_only: bool = False,
    ) -> None:
        """`vendor`: whose prices hold, as shared.llm.prices knows it; None: those of who answers at `url`."""
        if public_only:
            require_public(url)
        self.url = url
        self.vendor = vendor
        self.model = model
        self._headers = dict(headers)
        self._public_only = public_only
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        return f"{self.generator}/{self.model}"

    def body(self, turns: Sequence[Turn], json_schema: JsonSchema | None) -> dict[str, Any]:
        """The question, as the service takes it."""
        raise NotImplementedError

    def read(self, content: bytes) -> Completion:
        """The answer in a body of status 200. Raises ValidationError and IndexError for another shape."""
        raise NotImplementedError

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        question = orjson.dumps(self.body(turns, json_schema))
        headers, content = await self.send("POST", self.url, data=question, headers=_JSON)
        return self.completion(content, headers)

    async def send(self, method: str, url: str, **options: Any) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of an answer of status 200; `options`: aiohttp's. Raises what `refusal` says."""
        try:
            async with self.session().request(method, url, allow_redirects=False, **options) as response:
                content = await _bounded(response, self.model)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryLater(f"{self.model} did not answer: {type(error).__name__}.") from error
        if response.status != 200:
            raise self.refusal(response.status, response.headers, content)
        return response.headers, content

    async def lines(self, url: str) -> AsyncIterator[bytes]:
        """The lines of a file of answers, one after the other; it may be larger than memory."""
        left = b""
        try:
            async with self.session().get(url, timeout=_FILE_TIMEOUT, allow_redirects=False) as response:
                if response.status != 200:
                    content = await _bounded(response, self.model)
                    raise self.refusal(response.status, response.headers, content)
                async for piece in response.content.iter_any():
                    *lines, left = (left + piece).split(b"\n")
                    for line in lines:
                        yield line
                    if len(left) > MOST_RESPONSE_BYTES:
                        raise _too_large(self.model)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryLater(f"{self.model} did not answer: {type(error).__name__}.") from error
        yield left

    def completion(self, content: bytes, headers: Mapping[str, str]) -> Completion:
        """What a body of status 200 says. Raises ProviderRejected for an unknown shape."""
        try:
            answer = self.read(whole_characters(content))
        except (ValidationError, IndexError) as error:
            raise ProviderRejected(
                f"{self.model} answered in an unknown shape.", code="model_answer_unreadable"
            ) from error
        limits = limits_of(headers)
        if not limits:
            return answer
        return Completion(answer.text, answer.prompt_tokens, answer.completion_tokens, limits)

    def refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> TryLater | ProviderRejected:
        """What an answer of another status than 200 means; its reason is told without secrets."""
        reason, codes = _told(content)
        if status == 402 or codes & _NO_MONEY:
            return ProviderRejected(
                f"There is no money left at the vendor for {self.model}: {reason}", code="quota_used_up"
            )
        if status == 429:
            wait = self.wait_seconds(headers, content)
            return TryLater(f"{self.model} takes less (429).", retry_after_seconds=wait, too_fast=True)
        if status in _AWAY or status >= 500:
            wait = self.wait_seconds(headers, content)
            # Overloaded (529) is for all its callers, and less from each helps.
            return TryLater(
                f"{self.model} is busy ({status}).", retry_after_seconds=wait, too_fast=status == 529
            )
        return ProviderRejected(
            f"{self.model} refused the call ({status}): {reason}", code=self.refusal_code(status, content)
        )

    def wait_seconds(self, headers: Mapping[str, str], content: bytes) -> float | None:
        """How long the service asks to wait; None: it does not say."""
        return retry_after_seconds(headers)

    def refusal_code(self, status: int, content: bytes) -> str:
        """The code of a definite no: whether it is the key or the model, which holds for every call."""
        if status in (401, 403):
            return "api_key_rejected"
        return "model_not_found" if status == 404 else "model_refused"

    def question_hash(self, turns: Sequence[Turn], json_schema: JsonSchema | None) -> str:
        """SHA-256 of who is asked and of the whole question: equal questions get equal answers."""
        question = orjson.dumps(self.body(turns, json_schema), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(self.url.encode() + b"\0" + question).hexdigest()

    def cost_usd(
        self, prompt_tokens: int, completion_tokens: int, *, in_batch: bool = False
    ) -> Decimal | None:
        """What such an answer costs; None: no price is known."""
        usd = inference_cost_usd(
            self.model, prompt_tokens, completion_tokens, vendor=self.vendor, address=self.url
        )
        return usd * BATCH_SHARE if usd is not None and in_batch else usd

    def session(self) -> aiohttp.ClientSession:
        """The connections to the service, kept open between calls."""
        if self._session is None:
            # No limit of its own: how many calls there are at once is decided in shared.llm.pace.
            connector = aiohttp.TCPConnector(
                limit=0, resolver=PublicResolver() if self._public_only else None, keepalive_timeout=60
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=10),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def whole_characters(content: bytes) -> bytes:
    """The same JSON, with a replacement character for half of one, which models write and no parser takes."""
    return _HALF_CHARACTER.sub(rb"\\ufffd", content)


async def _bounded(response: aiohttp.ClientResponse, model: str) -> bytes:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > MOST_RESPONSE_BYTES:
            raise _too_large(model)
    return bytes(content)


def _too_large(model: str) -> ProviderRejected:
    return ProviderRejected(
        f"{model} answered with more than {MOST_RESPONSE_BYTES:,} bytes.", code="model_answer_too_large"
    )


def _told(content: bytes) -> tuple[str, set[str]]:
    """The reason in an error, and its codes. All vendors have an object `error` with a `message`."""
    try:
        error = orjson.loads(content)["error"]
        reason, codes = str(error["message"]), {str(error.get(key)) for key in ("code", "type")}
    except (ValueError, KeyError, TypeError, AttributeError):
        reason, codes = content[:2000].decode(errors="replace"), set()
    return str(redact(reason))[:300], codes
