"""What Hugging Face says of a job, of a token and of prices, in our words."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from shared.log import redact
from shared.providers.base import KeyFacts, ProviderReport, ReportedStatus
from shared.providers.huggingface_client import request_seconds
from shared.training.spec import RunError

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

STAGES: dict[str, ReportedStatus] = {
    "SCHEDULING": "queued",
    "RUNNING": "training",
    "COMPLETED": "completed",
    "CANCELED": "cancelled",
    "ERROR": "failed",
    "DELETED": "cancelled",  # somebody took it away
}
_STEPS = {
    "SCHEDULING": "Waiting for a machine at Hugging Face",
    "RUNNING": "The trainer's container runs",
    "COMPLETED": "Completed",
    "CANCELED": "Cancelled",
    "DELETED": "Deleted at Hugging Face",
}
_MINUTES = {"second": 1 / 60, "minute": 1, "hour": 60}
_LOG_SECONDS, _LOG_LINES, _LOG_LINE_CHARACTERS, _LOG_CHARACTERS = 5.0, 20, 200, 1500
_MAY_RUN_JOBS = "job.write"
_MAY_NOT = "no job.write: cannot start jobs"


def has_failed(job: JobInfo) -> bool:
    return STAGES.get(job.status.stage) == "failed"


def report(job: JobInfo, log: str, *, cost_usd: float | None) -> ProviderReport:
    """The state of a job. How far it is and what came of it the trainer says itself."""
    status = STAGES.get(job.status.stage, "training")  # a word that is new to us is no end
    error = None
    if status == "failed":
        reason = str(redact(job.status.message or "It gave no reason."))[:300]
        lines = f" Its last lines: {log}" if log else ""
        message = f"The trainer's container failed at Hugging Face. {reason}{lines}"
        error = RunError(code="provider_failed", message=message)
    return ProviderReport(status, _STEPS.get(job.status.stage), error=error, cost_usd=cost_usd)


def last_lines(api: HfApi, namespace: str, job: JobInfo) -> str:
    """The end of what the container wrote, redacted. Empty where it cannot be had within five seconds."""
    import httpx2

    lines: deque[str] = deque(maxlen=_LOG_LINES)
    deadline = time.monotonic() + _LOG_SECONDS
    before = request_seconds.get()
    request_seconds.set(min(before or _LOG_SECONDS, _LOG_SECONDS))
    try:
        for line in api.fetch_job_logs(job_id=job.id, namespace=namespace, tail=_LOG_LINES):
            lines.append(line.rstrip()[:_LOG_LINE_CHARACTERS])
            if time.monotonic() > deadline:
                break
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError):
        pass  # what was read so far is better than nothing
    finally:
        request_seconds.set(before)
    return str(redact("\n".join(lines)))[-_LOG_CHARACTERS:]


def prices(api: HfApi) -> dict[str, float]:
    """USD a minute, by flavor. Empty where the list cannot be had: a state is told without its cost."""
    import httpx2

    try:
        hardware = api.list_jobs_hardware()
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        found.name: found.unit_cost_usd / _MINUTES[found.unit_label]
        for found in hardware
        if found.unit_label in _MINUTES
    }


def facts(whoami: dict[str, Any], namespace: str | None) -> KeyFacts:
    """Whose token it is and what it may do; for a token that may not start jobs, that it may not.

    The permissions of a fine-grained token are those for `namespace`, None: for its own account.
    """
    account = str(whoami.get("name"))
    token = (whoami.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")
    if role == "fineGrained":
        scopes = token.get("fineGrained") or {}
        granted = {str(found) for found in scopes.get("global") or []}
        for scope in scopes.get("scoped") or []:
            if (scope.get("entity") or {}).get("name") == (namespace or account):
                granted.update(str(found) for found in scope.get("permissions") or [])
        lacks = () if _MAY_RUN_JOBS in granted else (_MAY_NOT,)
        return KeyFacts(account, (*lacks, *sorted(granted)))
    return KeyFacts(account, ("read", _MAY_NOT) if role == "read" else (str(role),) if role else ())
