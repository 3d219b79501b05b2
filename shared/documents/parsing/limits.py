"""What reading a file may cost, and how a reader says no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Of one file. What is over a limit is refused as too large; nothing is cut off."""

    file_bytes: int = 50 * MIB  # of a file that is parsed: the limit of the bucket
    text_bytes: int = 10 * MIB  # of the text, in UTF-8
    pages: int = 2000
    unpacked_bytes: int = 150 * MIB  # of all files in a DOCX together
    unpack_ratio: int = 100  # unpacked to packed bytes of one file in a DOCX, once it is over 4 MiB
    memory_bytes: int = 1024 * MIB  # address space of the child process
    cpu_seconds: int = 60
    wall_seconds: float = 90


class Refusal(Exception):
    """The file cannot be used; the message says what to do about it."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = f"document_{code}"
        self.message = message
        self.details = details or None


def too_large(message: str, **details: Any) -> Refusal:
    return Refusal("too_large", f"{message} Split the document and upload the parts.", **details)
