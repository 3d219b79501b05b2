"""What OpenAI's SDK raises, in our words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.llm.limits import retry_after_seconds
from shared.providers.wire import told

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

Answer = TypeVar("Answer")

_BROKEN = "provider_connection_broken"
_BREAKDOWN = "provider_breakdown"
_WORTH_REPEATING = frozenset({_BROKEN, _BREAKDOWN})

# What says that this account, or this model, cannot be trained. OpenAI documents no error for it (looked
# for on 2026-11-20). The second of the words is OpenAI's, in public reports (openai-cookbook issue 657).
_NOT_ELIGIBLE_CODES = frozenset(
    {
        "training_not_available",
        "fine_tuning_not_available",
        "model_not_available",
        "organization_not_eligible",
        "unsupported_country_region_territory",
    }
)
_NOT_ELIGIBLE_WORDS = ("not available to your organization", "is not available for fine-tuning")
_OUT_OF_MONEY_CODES = frozenset({"insufficient_quota", "billing_not_active"})
OUT_OF_MONEY = "provider_account"  # code of a ProviderBusy that no waiting mends


def worth_repeating(error: Exception) -> bool:
    """Whether the same call may do better at once. Silence is not: three of them outlast every lease."""
    return (
        isinstance(error, ProviderUnavailable)
        and error.code in _WORTH_REPEATING
        and not error.retry_after_seconds
    )


async def translated(
    call: Callable[[AsyncOpenAI], Awaitable[Answer]],
    sdk: AsyncOpenAI,
    missing: type[ProviderError],
    otherwise: Callable[[object], Answer | None],
) -> Answer:
    """The answer, or one of our errors. Theirs are not chained: they hold the request, key and all."""
    import httpx2
    import openai

    try:
        return await call(sdk)
    except openai.APIResponseValidationError as error:
        read = otherwise(error.body)
        if read is not None:
            return read
        raise _unreadable(error) from None
    except openai.APIStatusError as error:
        raise _refused(error, SecretStr(sdk.api_key), missing) from None
    except openai.APITimeoutError:
        raise silent() from None
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, ProviderError):  # of our own transport
            raise error.__cause__ from None
        cause = type(error.__cause__ or error).__name__
        raise ProviderUnavailable(f"The connection to the provider broke ({cause}).", code=_BROKEN) from None
    except (openai.OpenAIError, httpx2.HTTPError, ValueError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The provider's answer cannot be read ({type(error).__name__}).", code="provider_answer_unreadable"
    )


def silent() -> ProviderUnavailable:
    """No answer in time."""
    return ProviderUnavailable("The provider did not answer in time.", code="provider_timeout")


def _refused(error: APIStatusError, key: SecretStr, missing: type[ProviderError]) -> ProviderError:
    body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
    status = error.status_code
    code = told(body["code"], key) if isinstance(body.get("code"), str) else None
    reason = told(str(body.get("message") or f"HTTP {status} without a reason"), key)
    details = {"status": status, "code": code, "requestId": told(error.request_id or "", key)}
    wait = retry_after_seconds(error.response.headers)
    if status == 401:
        return ProviderKeyInvalid(f"The provider does not accept the key: {reason}", details=details)
    if status == 429 and code in _OUT_OF_MONEY_CODES:
        reason = f"The account at the provider cannot pay: {reason}"
        return ProviderBusy(reason, code=OUT_OF_MONEY, details=details, retry_after_seconds=wait)
    if status == 403 or (status in (400, 404) and _says_not_eligible(code, reason)):
        return ProviderNotEligible(
            f"The provider does not let this account do that: {reason}", details=details
        )
    if status == 429:
        return ProviderBusy(f"The provider is busy: {reason}", details=details, retry_after_seconds=wait)
    if status >= 500 or status in (408, 409, 425):
        reason = f"The provider has a problem ({status}): {reason}"
        return ProviderUnavailable(reason, code=_BREAKDOWN, details=details, retry_after_seconds=wait)
    if status == 404:
        return missing(f"The provider knows no such thing: {reason}", details=details)
    if status < 400:
        reason = "It answered with a redirect, and a key is not sent on to another address."
    return ProviderRejected(f"The provider refused ({status}): {reason}", details=details)


def _says_not_eligible(code: str | None, reason: str) -> bool:
    return code in _NOT_ELIGIBLE_CODES or any(words in reason for words in _NOT_ELIGIBLE_WORDS)
