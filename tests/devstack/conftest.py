"""A place for a stack's data."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory whose name holds spaces; `nobody` can enter it, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow test "))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)
