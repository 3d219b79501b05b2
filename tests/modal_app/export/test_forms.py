"""The whole model, the adapters and the card, as the command line writes them and strangers load them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import yaml

from modal_app.export.card import model_card
from modal_app.export.finished import FinishedModel
from shared.training.config import Method
from shared.training.spec import RunResult, TrainerExit
from tests.conftest import Figure
from tests.modal_app import measures, trainers
from tests.modal_app.export.conftest import TAUGHT
from tests.modal_app.measures import elsewhere
from tests.modal_app.trainers import Trainer

HOSTILE = "Öl | <script>alert(1)</script>\n# [x](y) `z`\n---\nlicense: mit"

STAND_IN = """
import ctypes

LLAMA_FTYPE_MOSTLY_Q4_K_M = 15


class llama_model_quantize_params(ctypes.Structure):
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int)]


def llama_model_quantize_default_params():
    return llama_model_quantize_params()


def llama_model_quantize(source: bytes, target: bytes, parameters, /) -> int:
    wanted = ctypes.cast(parameters, ctypes.POINTER(llama_model_quantize_params)).contents
    with open(source, "rb") as read, open(target, "wb") as write:
        write.write(read.read(4) + b" as %d" % wanted.ftype)
    return 0
"""


def export(run_dir: Path, form: str, output: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what was told."""
    command = [sys.executable, "-m", "modal_app.export", str(run_dir), "--format", form]
    done = subprocess.run(
        [*command, "--output", str(output), *more], capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def merged(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    output = tmp_path_factory.mktemp("exports") / "merged"
    code, told = export(taught, "merged", output, "--name", HOSTILE, "--dataset", HOSTILE)
    assert code == 0, told
    return output, told


def test_the_merged_model_answers_in_bfloat16(
    merged: tuple[Path, list[dict[str, Any]]], libraries: ForkServerContext, data_dir: Path, figure: Figure
) -> None:
    output, told = merged
    within = data_dir / "merged"  # the engine reads nothing outside
    shutil.copytree(output, within)
    [right] = measures.right_answers(libraries, data_dir, [(str(within), TAUGHT)])
    dtypes = elsewhere(libraries, _dtypes, output)
    figure(f"merged in bfloat16: {right} of {len(TAUGHT)} right")
    assert right == len(TAUGHT)
    assert dtypes == {"torch.bfloat16"}
    assert json.loads((output / "config.json").read_text())["dtype"] == "bfloat16"
    assert [line["bytes_done"] for line in told[:-1]] == sorted(line["bytes_done"] for line in told[:-1])
    assert told[-2]["bytes_done"] == told[-2]["byte_count"]
    assert {file["name"]: file["bytes"] for file in told[-1]["files"]} == {
        path.name: path.stat().st_size for path in output.iterdir()
    }


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_are_merged_into_the_base_as_it_was_published(
    start: Callable[[Path], Trainer],
    new_run: Callable[..., Path],
    libraries: ForkServerContext,
    method: Method,
    figure: Figure,
) -> None:
    """Of qlora too: merged into 4 bits, the base itself would come back rounded."""
    run_dir = new_run(TAUGHT[:8], method=method, epochs=1)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    furthest, change = elsewhere(libraries, _merge_error, run_dir)
    figure(f"{method}: merged and computed differ by {furthest:.1e}, where adapters change by {change:.1e}")
    assert furthest < 1e-6 < change


def test_the_adapter_names_its_base_and_no_place_of_this_machine(
    taught: Path, libraries: ForkServerContext, data_dir: Path, tmp_path: Path
) -> None:
    code, told = export(taught, "adapter", tmp_path / "adapter")
    assert code == 0, told
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("fineflow/tiny", None)
    assert elsewhere(libraries, _with_adapter, data_dir, tmp_path / "adapter", TAUGHT[0][0]) == TAUGHT[0][1]


def test_what_was_trained_on_a_model_of_the_project_names_the_first_of_its_line(
    taught: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(taught, run_dir)
    status = json.loads((run_dir / "status.json").read_text())
    parent = "model:00000000-0000-4000-8000-000000000001"
    root = {"base_model": parent, "root_base_model": "Qwen/Qwen3-0.6B", "base_sha256": "c" * 64}
    status["result"]["recipe"] |= root
    (run_dir / "status.json").write_text(json.dumps(status))
    card = model_card(FinishedModel.at(run_dir), "merged", name="later", dataset=None)
    head = yaml.safe_load(card.split("---\n", 2)[1])
    assert (head["base_model"], head["license"]) == ("Qwen/Qwen3-0.6B", "apache-2.0")
    assert f"by way of `{parent}` (sha256 `{'c' * 64}`)" in card
    code, told = export(run_dir, "adapter", tmp_path / "adapter")
    assert (code, "Take 'merged'" in told[-1]["error"]["message"]) == (1, True)


def test_no_form_tells_where_it_was_made(
    taught: Path, merged: tuple[Path, list[dict[str, Any]]], data_dir: Path, tmp_path: Path
) -> None:
    exports = [merged[0]]
    for form in ("adapter", "ollama"):
        exports.append(tmp_path / form)
        assert export(taught, form, exports[-1], "--quantization", "q8_0")[0] == 0
    for file in (path for output in exports for path in output.iterdir()):
        content = file.read_bytes()
        assert str(data_dir).encode() not in content, file
        assert os.fsencode(Path.home()) + b"/" not in content, file
    assert {path.name for path in exports[-1].iterdir()} == {"Modelfile", "README.md", "model.gguf"}


def test_the_card_tells_the_run_and_nothing_of_a_name_is_markup(
    taught: Path, merged: tuple[Path, list[dict[str, Any]]]
) -> None:
    card = (merged[0] / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": None,
        "base_model": "fineflow/tiny",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["fineflow", "lora"],
    }
    result: RunResult = trainers.result(taught)
    for told in (
        "| Rows | 24 |",
        "| Epochs | 30 |",
        f"-> {result.training_loss:.4f} |",
        result.recipe["dataset_sha256"],
        "| torch | 2.",
        "`lora_r`",
        "from_pretrained",
    ):
        assert told in body
    title = body.strip().splitlines()[0]
    assert title.startswith("# Öl \\| \\<script\\>alert(1)\\</script\\> \\# \\[x\\](y) \\`z\\` ---")
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert body.count("\n# ") + body.startswith("# ") == 1


def test_what_cannot_be_had_is_refused_with_what_to_do(
    taught: Path, data_dir: Path, new_run: Callable[..., Path], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "kept").write_text("kept")
    for more, code, words in (
        ((taught, "gguf", there), "output_exists", "there is there already"),
        ((taught, "gguf", tmp_path / "new", "--quantization", "q4_k_m"), "quantizer_missing", "Take q8_0"),
        ((new_run(TAUGHT), "merged", tmp_path / "new"), "model_not_found", "artifact/config.json is missing"),
    ):
        ended, told = export(*more)  # type: ignore[arg-type] # a path, words and more words
        assert (ended, told[-1]["error"]["code"]) == (1, code)
        assert words in told[-1]["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert [path.name for path in there.iterdir()] == ["kept"]


def test_a_full_disk_leaves_nothing_behind(taught: Path, tmp_path: Path) -> None:
    """The limit on the size of a file fails a write half-way, as a full disk does."""
    program = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000));"
        "sys.argv[0] = 'export'; runpy.run_module('modal_app.export', run_name='__main__')"
    )
    asked = [str(taught), "--format", "gguf", "--output", str(tmp_path / "model")]
    done = subprocess.run(
        [sys.executable, "-c", program, *asked], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"]
    assert not list(tmp_path.iterdir())


def test_q4_k_m_is_asked_of_llama_cpp_where_it_is(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the names and types of llama-cpp-python 0.3.36, which takes minutes to build."""
    (tmp_path / "llama_cpp.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.getcwd()}")
    code, told = export(taught, "gguf", tmp_path / "model", "--quantization", "q4_k_m")
    assert code == 0, told
    assert {file["name"] for file in told[-1]["files"]} == {"README.md", "model.gguf"}
    assert (tmp_path / "model" / "model.gguf").read_bytes() == b"GGUF as 15"


def _dtypes(directory: Path) -> set[str]:
    from modal_app.export.finished import Weights

    with Weights(directory) as weights:
        return {str(weights.read(name).dtype) for name in weights.names}


def _merge_error(run_dir: Path) -> tuple[float, float]:
    """How far the merged weights are from base + alpha / r x B A, and how much the adapters change at all."""
    from modal_app.export.finished import Weights
    from modal_app.settings import machine
    from modal_app.tiny import tiny_base

    config = json.loads((run_dir / "adapter" / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    name = "model.layers.1.mlp.down_proj"
    with (
        Weights(tiny_base(machine().data_dir)) as base,
        Weights(run_dir / "adapter") as adapter,
        Weights(run_dir / "artifact") as merged,
    ):
        down, up = (adapter.read(f"base_model.model.{name}.lora_{side}.weight").float() for side in "AB")
        change = scale * up @ down
        expected = base.read(f"{name}.weight").float() + change
        error = (merged.read(f"{name}.weight").float() - expected).abs().max()
    return float(error), float(change.abs().max())


def _with_adapter(data_dir: Path, adapter: Path, question: str) -> str:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modal_app.tiny import tiny_base

    tokenizer: Any = AutoTokenizer.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(tiny_base(data_dir), dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, str(adapter)).eval()
    prompt = tokenizer.apply_chat_template(
        trainers.messages((question, ""))[:1], add_generation_prompt=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, max_new_tokens=96, do_sample=False)
    return str(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
