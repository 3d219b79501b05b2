"""Errors, by what the caller does next.

    FineFlowError
    ├── CallerError           the request is wrong; the same request will fail again
    │   ├── InvalidRequest      422
    │   ├── Unauthorized        401
    │   ├── Forbidden           403
    │   ├── NotFound            404   also for what another project owns
    │   ├── Conflict            409
    │   ├── PayloadTooLarge     413
    │   └── RateLimited         429   try again after `retry_after_seconds`
    ├── ProviderError
    │   ├── ProviderUnavailable 503   nobody knows what happened; look before trying again
    │   │   └── ProviderBusy    503   turned away before anything happened; try again later
    │   ├── ProviderRejected    422   a definite no, with the provider's reason
    │   ├── ProviderNotEligible 403   this account may not train there
    │   ├── ProviderKeyInvalid  422   the key does not open this provider; only its owner can help
    │   └── ProviderRunNotFound 404   the provider knows no such run (yet, or any more)
    └── ServiceUnavailable      503   our own database or storage did not answer; try again

Each carries a `code` for programs and a message that says what to do next; both are shown to users.
"""

from __future__ import annotations

from typing import Any, ClassVar

LONGEST_RETRY_SECONDS = 86_400.0  # who names more is asked again; a row could not hold any number


class FineFlowError(Exception):
    """Anything that FineFlow reports to a caller."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """The JSON that leaves the house: `{"error": {"code", "message", "details"}}`."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class CallerError(FineFlowError):
    """The caller must change something before trying again."""


class InvalidRequest(CallerError):
    status, default_code = 422, "invalid_request"


class Unauthorized(CallerError):
    status, default_code = 401, "unauthorized"


class Forbidden(CallerError):
    status, default_code = 403, "forbidden"


class NotFound(CallerError):
    status, default_code = 404, "not_found"


class Conflict(CallerError):
    status, default_code = 409, "conflict"


class PayloadTooLarge(CallerError):
    status, default_code = 413, "payload_too_large"


class RateLimited(CallerError):
    status, default_code = 429, "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: int, code: str | None = None) -> None:
        super().__init__(message, code=code, details={"retryAfterSeconds": retry_after_seconds})
        self.retry_after_seconds = retry_after_seconds


class ProviderError(FineFlowError):
    """Somebody else's service said no, or said nothing."""


class ProviderUnavailable(ProviderError):
    status, default_code = 503, "provider_unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Any = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """retry_after_seconds: as the provider named it, whatever that was; None: it named no time."""
        super().__init__(message, code=code, details=details)
        self.retry_after_seconds: float | None = None
        if retry_after_seconds is not None and retry_after_seconds >= 0:  # which nan is not
            self.retry_after_seconds = min(retry_after_seconds, LONGEST_RETRY_SECONDS)


class ProviderBusy(ProviderUnavailable):
    default_code = "provider_busy"


class ProviderRejected(ProviderError):
    status, default_code = 422, "provider_rejected"


class ProviderNotEligible(ProviderError):
    status, default_code = 403, "provider_not_eligible"


class ProviderKeyInvalid(ProviderError):
    status, default_code = 422, "api_key_invalid"


class ProviderRunNotFound(ProviderError):
    status, default_code = 404, "provider_run_not_found"


class ServiceUnavailable(FineFlowError):
    status, default_code = 503, "service_unavailable"
