"""Why a run failed: every exception becomes a code for programs and a sentence for people."""

from __future__ import annotations

import errno

from shared.errors import FineFlowError
from shared.training.spec import RunError

OUT_OF_MEMORY = "out_of_memory"
# What says the same as a plain RuntimeError: torch's allocators, the C++ library, and cuBLAS.
_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class RunFailed(FineFlowError):
    """The run cannot succeed as it stands. Always carries a code of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


def explain(error: Exception) -> RunError:
    """The code and sentence that the user sees. The traceback belongs in the log, not here."""
    if isinstance(error, FineFlowError):
        return RunError(code=error.code, message=error.message)
    if is_out_of_memory(error):
        return RunError(
            code=OUT_OF_MEMORY,
            message="The model and a batch do not fit in memory. "
            "Lower batch_size or max_length, use method lora, or take a smaller base model.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            code="disk_full", message="The disk of the run directory is full. Make room, try again."
        )
    if isinstance(error, ImportError):
        return RunError(
            code="dependency_missing",
            message=f"{error.name or 'A library'} cannot be imported. Install fineflow[train].",
        )
    return RunError(code="trainer_error", message=f"Training stopped unexpectedly: {_first_line(error)}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error says that memory could not be had, of a GPU or of this machine.

    torch's own is recognised by name: torch may not be imported yet when an error is explained.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, FineFlowError):  # as another rank says it
        return error.code == OUT_OF_MEMORY
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _NO_MEMORY)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:500] if lines else 'no reason was given'}"
