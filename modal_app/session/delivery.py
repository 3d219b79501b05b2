"""One POST to report-training, and what its answer means."""

from __future__ import annotations

import ipaddress
from types import TracebackType
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from shared.training.spec import Callback, ReportBatch, ReportReceipt

TIMEOUT_SECONDS = 10.0
# Answers that mean: this job is not ours, or not any more.
_LOST_CODES = {(401, "claim_lost"), (403, "claim_lost"), (409, "claim_lost"), (404, "job_not_found")}
_LATER_STATUSES = {401, 403, 404, 408, 425, 429}  # a deploy or a rotated key can cause each; it may pass


class ClaimLost(Exception):
    """Another trainer has this job, or the job has ended."""


class Unreachable(Exception):
    """Nobody answered as report-training does. Try again later."""


class Refused(Exception):
    """These reports will never be taken. Sending them again is useless."""

    def __init__(self, what: str, *, code: str = "", told: str = "") -> None:
        """code, told: as report-training says them; empty: it was not asked."""
        super().__init__(what)
        self.code = code
        self.told = told


class Delivery:
    """Keeps one connection open. Never logs or raises with the token."""

    def __init__(self, callback: Callback, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = callback.url
        self._client = httpx.Client(
            timeout=timeout_seconds,
            headers={"authorization": f"Bearer {callback.token.get_secret_value()}"},
            trust_env=not is_loopback(callback.url),  # a proxy cannot reach this machine's loopback
        )

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def post(self, batch: ReportBatch) -> ReportReceipt:
        """The receipt. Raises ClaimLost, Refused or Unreachable.

        After Unreachable nobody knows what was stored; sending the same again is harmless.
        """
        try:
            response = self._client.post(
                self._url,
                content=batch.model_dump_json(by_alias=True),
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        try:
            receipt = ReportReceipt.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable("an answer that is no receipt") from error
        if not receipt.claimed:
            raise ClaimLost
        return receipt


def _refusal(response: httpx.Response) -> Exception:
    status = response.status_code
    code, told = _error(response)
    if (status, code) in _LOST_CODES:
        return ClaimLost()
    if status >= 500 or status in _LATER_STATUSES or not response.is_client_error:
        return Unreachable(f"HTTP {status} {code}")
    return Refused(f"HTTP {status} {code}", code=code, told=told)


def _error(response: httpx.Response) -> tuple[str, str]:
    """Its code and its sentence."""
    try:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])[:2000]
    except (ValueError, KeyError, TypeError):
        return "without a code", ""


def is_loopback(url: str) -> bool:
    """Whether the address is one of this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
