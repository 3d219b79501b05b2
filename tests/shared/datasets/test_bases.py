"""Which tokenizers this machine may open, and what is said of the others."""

from pathlib import Path

import pytest

from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.bases import tokenizer_directory
from shared.errors import InvalidRequest
from shared.training.catalog import TINY


def test_a_hub_model_is_opened_from_the_cache_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    tiny = tokenizer_directory(TINY, data_dir=tmp_path, model_dirs=())
    model = tmp_path / "hub" / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    with pytest.raises(InvalidRequest, match="hf download some/model") as missing:
        tokenizer_directory("some/model", data_dir=tmp_path, model_dirs=())
    assert missing.value.code == "tokenizer_unavailable"
    (model / "snapshots").mkdir()
    (model / "snapshots" / "abc").symlink_to(tiny)
    found = tokenizer_directory("some/model", data_dir=tmp_path, model_dirs=())
    with BaseTokenizer(found) as tokenizer:
        assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("path", ["{}/models/../secret", "{}/link", "{}", "/etc", "{}/models2/a"])
def test_a_path_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    allowed = tmp_path / "models"
    for directory in (allowed / "a", tmp_path / "secret", tmp_path / "models2" / "a"):
        directory.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (allowed / "inside").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest, match="FINEFLOW_BASE_MODEL_DIRS"):
        tokenizer_directory(path.format(tmp_path), data_dir=tmp_path, model_dirs=[allowed])
    with pytest.raises(InvalidRequest):
        tokenizer_directory(str(allowed / "inside"), data_dir=tmp_path, model_dirs=[allowed])
    assert tokenizer_directory(str(allowed / "a"), data_dir=tmp_path, model_dirs=[allowed]) == allowed / "a"
