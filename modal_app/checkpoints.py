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
    """The newest whole checkpoint of this run. The others are removed: a killed trainer left them.

    None: there is nothing to go on from.
    """
    candidates = sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True)
    newest = next((path for path in candidates if _is_whole(path, fingerprint)), None)
    for path in candidates:
        if path != newest:
            shutil.rmtree(path)
    return newest


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
