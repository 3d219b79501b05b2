"""How a command ends: one table of exit codes, and the one exception that carries them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1  # the work was done and failed: a failed job, an invalid dataset
    USAGE = 2  # wrong arguments, nothing of that name, or the request was refused
    UNREACHABLE = 3  # the stack does not answer, or one is running already
    FORBIDDEN = 4  # not logged in, or not allowed
    INTERRUPTED = 130  # Ctrl-C; SIGTERM gives 143


class CliError(Exception):
    """Ends the command with `exit_code`: the message says what is wrong, the hint what to do next."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str = "failed",
        exit_code: ExitCode = ExitCode.FAILED,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.exit_code = exit_code
        self.details = details

    def body(self) -> dict[str, Any]:
        """The JSON that `--json` prints, in the API's own shape and with the hint beside it."""
        error = {"code": self.code, "message": self.message, "details": self.details, "hint": self.hint}
        return {"error": error}


class Interrupted(Exception):
    """A signal ended the command after everything it had started was stopped."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.exit_status = 128 + signal_number
