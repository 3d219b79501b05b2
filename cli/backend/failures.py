"""What went wrong, in the API's own sentence: each client library wraps it in a different way."""

from __future__ import annotations

from typing import Any

from cli.exits import CliError, ExitCode

_EXIT_BY_STATUS = {
    401: ExitCode.FORBIDDEN,
    403: ExitCode.FORBIDDEN,
    429: ExitCode.UNREACHABLE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}
_HINTS = {
    "missing_token": "Log in with `fineflow login EMAIL`.",
    "invalid_token": "Log in again with `fineflow login EMAIL`.",
    "token_expired": "Log in again with `fineflow login EMAIL`.",
    "no_documents": "Add some with `fineflow docs add FILE`.",
    "deployment_ambiguous": "Name the project with --project.",
    "rate_limited": "Wait a minute, then try again.",
    "dataset_not_ready": "Look at it with `fineflow datasets show`.",
    "dataset_too_small": "Add documents with `fineflow docs add` and create a larger dataset.",
    "already_split": "Give --restart to split it anew.",
    "api_key_missing": "Store the key with `fineflow keys set PROVIDER`.",
    "budget_exceeded": "See how the budget stands with `fineflow estimate`.",
    "trains_nothing": "See why with `fineflow datasets xray DATASET --base-model MODEL`.",
    "rows_refused": "See which with `fineflow datasets xray DATASET --base-model MODEL`.",
    "cost_unknown": "Give --spend-cap USD.",
    "deployment_not_found": "See `fineflow models list`, then `fineflow deploy MODEL --as NAME`.",
}
START_HINT = "Start a stack with `make up`, or set FINEFLOW_URL and FINEFLOW_PUBLISHABLE_KEY."


def explain(error: BaseException) -> CliError | None:
    """The expected failure behind `error`; None when it is a bug and deserves its traceback."""
    if isinstance(error, CliError):
        return error
    for translate in (_from_functions, _from_postgrest, _from_auth, _from_storage, _from_transport):
        if (explained := translate(error)) is not None:
            return explained
    return None


def _from_functions(error: BaseException) -> CliError | None:
    from supabase_functions.errors import FunctionsError

    if not isinstance(error, FunctionsError):
        return None
    wrapped: Any = error.message  # the library keeps the value of "error" here, whatever its shape
    if not isinstance(wrapped, dict):
        if error.status in (502, 503, 504):
            return unreachable("The functions of the stack do not answer.")
        return _refused(str(wrapped), "function_failed", error.status)
    message = str(wrapped.get("message") or "The function failed without saying why.")
    return _refused(
        message, str(wrapped.get("code") or "function_failed"), error.status, wrapped.get("details")
    )


def _from_postgrest(error: BaseException) -> CliError | None:
    from postgrest.exceptions import APIError

    if not isinstance(error, APIError):
        return None
    code = error.code or "database_error"
    if code == "42501":
        return CliError(
            "You are not allowed to do that in this project.",
            code="forbidden",
            exit_code=ExitCode.FORBIDDEN,
            details=error.message,
        )
    if code in ("PGRST301", "PGRST303"):
        return _refused("The session is no longer valid.", "token_expired", 401)
    message = error.message or "The database refused the request."
    exit_code = ExitCode.FORBIDDEN if code == "forbidden" else ExitCode.USAGE
    return CliError(message, hint=error.hint, code=code, exit_code=exit_code, details=error.details)


def _from_auth(error: BaseException) -> CliError | None:
    from supabase_auth.errors import AuthError, AuthRetryableError

    if isinstance(error, AuthRetryableError):
        return unreachable("The stack does not answer to a login.")
    if not isinstance(error, AuthError):
        return None
    hint = "Check the address and the password, or create an account with `fineflow signup EMAIL`."
    code = str(error.code or "login_failed")
    return CliError(error.message, hint=hint, code=code, exit_code=ExitCode.FORBIDDEN)


def _from_storage(error: BaseException) -> CliError | None:
    from storage3.exceptions import StorageApiError

    if not isinstance(error, StorageApiError):
        return None
    status = int(error.status) if str(error.status).isdigit() else 400
    return _refused(f"Storage refused the file: {error.message}", "storage_refused", status)


def _from_transport(error: BaseException) -> CliError | None:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return unreachable("The stack did not answer in time.")
    if isinstance(error, httpx.TransportError | ConnectionError):
        return unreachable("The stack cannot be reached.")
    return None


def unreachable(message: str) -> CliError:
    """Nobody answers where the stack should be."""
    return CliError(message, hint=START_HINT, code="unreachable", exit_code=ExitCode.UNREACHABLE)


def _refused(message: str, code: str, status: int, details: Any = None) -> CliError:
    if status >= 500:
        exit_code = _EXIT_BY_STATUS.get(status, ExitCode.FAILED)
    else:
        exit_code = _EXIT_BY_STATUS.get(status, ExitCode.USAGE)
    hint = _HINTS.get(code) or _alternative(details)
    return CliError(message, hint=hint, code=code, exit_code=exit_code, details=details)


def _alternative(details: Any) -> str | None:
    offer = details.get("alternative") if isinstance(details, dict) else None
    if not isinstance(offer, dict):
        return None
    cost = offer["costRangeUsd"]["high"]
    price = "at a cost not known here" if cost is None else f"for {cost:.2f} USD at most"
    return (
        f"Instead, {price}: fineflow train DATASET --provider {offer['provider']}"
        f" --base-model {offer['baseModel']} --method {offer['method']}"
    )
