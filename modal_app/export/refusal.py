"""Why a model is not exported in a form, and what to do instead."""

from __future__ import annotations

from shared.errors import FineFlowError


class ExportRefused(FineFlowError):
    """This model cannot be had in this form here. The message says what to do."""

    def __init__(self, message: str, code: str = "export_unsupported") -> None:
        super().__init__(message, code=code)
