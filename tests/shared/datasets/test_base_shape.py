"""A base model whose config.json lies here is sized by it, and by nothing that lies elsewhere."""

import json
from pathlib import Path

import pytest

from shared.datasets.base_shape import base_shape
from shared.training.shapes import published

CONFIG = published()["Qwen/Qwen3-4B"].config


def test_a_path_below_an_allowed_directory_is_read(tmp_path: Path) -> None:
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    shape = base_shape(str(model), model_dirs=[tmp_path / "models"])
    assert shape is not None
    assert shape.parameters == 4_022_468_096
    assert base_shape(str(model), model_dirs=[]) is None
    assert base_shape(str(model / ".." / ".." / ".."), model_dirs=[tmp_path / "models"]) is None


def test_a_hub_model_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert base_shape("some/model", model_dirs=()) is None
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    shape = base_shape("some/model", model_dirs=())
    assert shape is not None
    assert shape.layers == 36


@pytest.mark.parametrize("content", ["", "{", '{"model_type": "warp"}', "[" * 100_000, " " * 2_000_000])
def test_a_file_that_says_no_shape_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert base_shape(str(tmp_path), model_dirs=[tmp_path]) is None
