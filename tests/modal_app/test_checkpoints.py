"""Which checkpoint a run goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modal_app.checkpoints import latest_whole, seal
from shared.training.micro_batch import rows_at_once

MINE, FOREIGN = "a" * 64, "b" * 64


def _checkpoint(home: Path, step: int, *, fingerprint: str | None = MINE) -> Path:
    path = home / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights" * step)
    if fingerprint:
        seal(path, fingerprint)
    return path


def test_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert latest_whole(tmp_path / "missing", MINE) == (None, [])


def test_the_newest_by_number(tmp_path: Path) -> None:
    older, newer = _checkpoint(tmp_path, 9), _checkpoint(tmp_path, 10)
    assert latest_whole(tmp_path, MINE) == (newer, [])
    assert not older.exists()


def test_unsealed_torn_and_foreign_ones_are_removed(tmp_path: Path) -> None:
    whole = _checkpoint(tmp_path, 1)
    torn = _checkpoint(tmp_path, 2)
    (torn / "model.safetensors").write_bytes(b"short")
    _checkpoint(tmp_path, 3, fingerprint=FOREIGN)
    _checkpoint(tmp_path, 4, fingerprint=None)
    (_checkpoint(tmp_path, 5) / "manifest.json").write_text('{"fingerp')
    damaged = [(5, "manifest.json"), (2, "model.safetensors")]
    assert latest_whole(tmp_path, MINE) == (whole, damaged)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("file", ["model.safetensors", "deeper/optimizer.pt", "manifest.json"])
def test_one_flipped_bit_is_noticed(tmp_path: Path, file: str) -> None:
    for step in (1, 2):
        path = _checkpoint(tmp_path, step, fingerprint=None)
        (path / "deeper").mkdir()
        (path / "deeper" / "optimizer.pt").write_bytes(b"moments" * step)
        seal(path, MINE)
    flipped = bytearray((tmp_path / "checkpoint-2" / file).read_bytes())
    flipped[-5] ^= 1
    (tmp_path / "checkpoint-2" / file).write_bytes(flipped)
    found = latest_whole(tmp_path, MINE)
    assert found.checkpoint == tmp_path / "checkpoint-1"
    assert [damage.step for damage in found.damaged] == [2]


def test_a_file_that_came_later_is_noticed(tmp_path: Path) -> None:
    whole = _checkpoint(tmp_path, 1)
    (_checkpoint(tmp_path, 2) / "rng_state.pth").touch()
    assert latest_whole(tmp_path, MINE) == (whole, [(2, "rng_state.pth")])


def test_without_the_best_weights_nothing_newer_is_gone_on_from(tmp_path: Path) -> None:
    steps = [_checkpoint(tmp_path, step, fingerprint=None) for step in (5, 6, 7)]
    for path in steps:
        best = steps[1] if path != steps[0] else path
        (path / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": str(best)}))
        seal(path, MINE)
    (steps[1] / "model.safetensors").write_bytes(b"weighty" * 6)
    assert latest_whole(tmp_path, MINE) == (steps[0], [(7, "model.safetensors"), (6, "model.safetensors")])


def test_the_best_is_kept_beside_the_newest(tmp_path: Path) -> None:
    steps = [_checkpoint(tmp_path, step, fingerprint=None) for step in (5, 6, 7, 8)]
    for path in steps:
        state = {"best_model_checkpoint": f"/elsewhere/checkpoints/{steps[1].name}"}
        (path / "trainer_state.json").write_text(json.dumps(state))
        seal(path, MINE)
    assert latest_whole(tmp_path, MINE) == (steps[3], [])
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-6", "checkpoint-8"}


def test_rows_that_must_pass_together_do() -> None:
    assert rows_at_once(8, 10_000, least=2) == 2
    assert rows_at_once(7, 10_000, least=2) == 7
    assert rows_at_once(1, 10, least=2) == 1


@pytest.mark.parametrize(
    ("batch_size", "longest_row_tokens", "rows"),
    [(4, 100, 4), (8, 1024, 8), (32, 1024, 16), (7, 16_384, 1), (6, 8_000, 2), (1, 100_000, 1)],
)
def test_micro_batches_divide_the_batch(batch_size: int, longest_row_tokens: int, rows: int) -> None:
    assert rows_at_once(batch_size, longest_row_tokens) == rows
