"""A place for a stack's data, and a small stack: Postgres and the front door over a sample project."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from devstack.install import PROJECT
from devstack.ports import free_port
from devstack.up import Stack

SAMPLE = Path(__file__).with_name("sample_project")


def make_project(directory: Path) -> Path:
    """The sample project with the settings of the real one, in a directory that does not exist yet."""
    shutil.copytree(SAMPLE, directory)
    shutil.copyfile(PROJECT / "supabase" / "config.toml", directory / "supabase" / "config.toml")
    return directory


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory whose name holds spaces; `nobody` can enter it, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow test "))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def sample_project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "a project")


@pytest.fixture(scope="session")
async def lite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The sample project, served by Postgres and the front door alone."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow lite "))
    project = make_project(tmp_path_factory.mktemp("lite") / "project")
    try:
        async with Stack(
            directory, free_port(), project=project, children={"postgres", "front_door"}
        ) as running:
            yield running
    finally:
        shutil.rmtree(directory)
