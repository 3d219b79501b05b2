"""Errors as Google's APIs answer them: google.rpc.Status with its details (google.aip.dev/193, 2026-11)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.fakes.http import Fault

RPC = "type.googleapis.com/google.rpc"
_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def error_body(status: int, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """An error as Google's APIs answer it."""
    said: dict[str, Any] = {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}
    return {"error": said | ({"details": list(details)} if details else {})}


def exhausted(retry_after_seconds: float) -> Fault:
    """429: the quota is used up, with the wait named in the body and in the header."""
    wait = {"@type": f"{RPC}.RetryInfo", "retryDelay": f"{retry_after_seconds:g}s"}
    body = error_body(429, "You exceeded your current quota, please check your plan and billing.", wait)
    return Fault(status=429, headers={"retry-after": f"{retry_after_seconds:g}"}, body=body)


def refuse(status: int, message: str, *details: dict[str, Any]) -> web.Response:
    return web.json_response(error_body(status, message, *details), status=status)
