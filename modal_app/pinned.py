"""What a run starts from, to the byte: the name of a base model may mean something else tomorrow."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from modal_app.base import hub_is_reachable, needs_network
from modal_app.session.directory import sha256_of
from modal_app.task import Task
from modal_app.tiny import recipe_hash
from shared import log as logs
from shared.training.catalog import TINY

log = logs.logger("trainer")


def pinned(task: Task) -> Task:
    """The task with the commit of its base model in the spec, or with the sha256 of a base that lies here.

    The commit is kept in the run directory: each trainer of the run loads the same one, and checkpoints of
    another are not gone on from. Without it, as when the Hub does not answer, loading says what is wrong.
    """
    base_model = task.base_source
    if base_model == TINY:
        return replace(task, base_sha256=recipe_hash())
    if not needs_network(base_model):
        return replace(task, base_sha256=_sha256_of_model(Path(base_model)))
    commit = task.directory.base_commit() or _commit(base_model, task.spec.base_revision)
    if commit is None:
        return task
    task.directory.keep_base_commit(commit)
    return replace(task, spec=task.spec.model_copy(update={"base_revision": commit}))


def _commit(base_model: str, revision: str | None) -> str | None:
    """What the revision (None: the default branch) means now, or in the cache if the Hub is out of reach."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().resolve_revision(
            base_model, revision=revision, local_files_only=not hub_is_reachable()
        )
    except Exception as error:  # not there, gated, or silent: loading meets the same, and says what to do
        log.warning("base_revision_unknown", base_model=base_model, cause=type(error).__name__)
        return None
    return found.resolved


def _sha256_of_model(directory: Path) -> str:
    """Of the names and contents of its weights and settings.

    Contents and not sizes: weights of one architecture have one size. Loading reads the same files next.
    """
    digest = hashlib.sha256()
    files = [path for ending in ("*.safetensors", "*.json") for path in directory.rglob(ending)]
    for path in sorted(files):
        digest.update(f"{path.relative_to(directory)}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()
