"""Checkpoints that can be trusted: a manifest, written last, says that one is whole and whose it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

MANIFEST = "manifest.json"


def seal(checkpoint: Path, fingerprint: str) -> None:
    """The checkpoint is whole from now on, and belongs to the run with this fingerprint."""
    manifest = {"fingerprint": fingerprint, "bytes": _sizes(checkpoint)}
    draft = checkpoint / "manifest.tmp"
    draft.write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
    os.replace(draft, checkpoint / MANIFEST)


def latest_whole(checkpoints: Path, fingerprint: str) -> Path | None:
    """The newest whole checkpoint of this run. Removed is what a killed trainer left, and what is older.

    The one with the best validation loss is kept beside it. None: there is nothing to go on from.
    """
    candidates = sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True)
    newest = next((path for path in candidates if _is_whole(path, fingerprint)), None)
    kept = {newest, _best(newest)} if newest else set()
    for path in candidates:
        if path not in kept:
            shutil.rmtree(path)
    return newest


def _best(checkpoint: Path) -> Path | None:
    """The checkpoint that had the best weights when this one was written; None: nobody looked."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    except FileNotFoundError:
        return None
    best = state.get("best_model_checkpoint")
    return checkpoint.parent / Path(best).name if best else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path, fingerprint: str) -> bool:
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return bool(manifest == {"fingerprint": fingerprint, "bytes": _sizes(checkpoint)})


def _sizes(checkpoint: Path) -> dict[str, int]:
    return {
        str(path.relative_to(checkpoint)): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
