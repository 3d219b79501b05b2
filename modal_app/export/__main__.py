"""`python -m modal_app.export RUN_DIR --format FORMAT --output DIR`.

Tells on standard output how far it is, one JSON object a line; the last one has `files`, or `error`. Exit
code 1: nothing was written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

from modal_app.export.card import Format, model_card
from modal_app.export.finished import FinishedModel
from modal_app.export.ollama import modelfile
from modal_app.export.quantizer import ALL_QUANTIZATIONS, write_quantized
from modal_app.export.refusal import ExportRefused
from modal_app.export.weights import write_adapter, write_merged
from modal_app.session.failures import explain
from shared import log as logs

GGUF_NAME = "model.gguf"
_TOLD_EVERY = 0.01  # of all bytes

log = logs.logger("export")


class _Progress:
    """Prints about a hundred lines, however many tensors there are."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, written: int, total: int) -> None:
        share = written / max(total, 1)
        if share >= min(self._told + _TOLD_EVERY, 1):
            self._told = share
            _tell(bytes_done=written, byte_count=total)


def export(
    model: FinishedModel, form: Format, output: Path, *, quantization: str, name: str, dataset: str | None
) -> list[dict[str, Any]]:
    """`output` holds the model in this form and its card: all of it, or it is not there.

    Returns name and bytes of each file. Raises ExportRefused.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExportRefused(f"{output.name} is there already. Choose another place.", code="output_exists")
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f"{output.name}.saving")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        progress = _Progress()
        (draft / "README.md").write_text(model_card(model, form, name=name, dataset=dataset), "utf-8")
        if form == "adapter":
            write_adapter(model, draft, progress)
        elif form == "merged":
            write_merged(model, draft, progress)
        else:
            if form == "ollama":  # first: it takes no time, and may be refused
                (draft / "Modelfile").write_text(modelfile(model, GGUF_NAME), "utf-8")
            write_quantized(model, draft / GGUF_NAME, quantization, name=name, progress=progress)
        os.replace(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return [{"name": str(path.relative_to(output)), "bytes": path.stat().st_size} for path in files]


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    logs.configure()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all that is read lies here
    parser = argparse.ArgumentParser(prog="python -m modal_app.export", description="Exports a model.")
    parser.add_argument("run_dir", type=Path, help="the directory of a completed run, or artifact/ in it")
    parser.add_argument("--format", required=True, choices=get_args(Format), dest="form")
    parser.add_argument("--quantization", default="f16", choices=ALL_QUANTIZATIONS, help="of gguf and ollama")
    parser.add_argument("--output", type=Path, required=True, help="a directory that is not there, or empty")
    parser.add_argument("--name", default="A tuned model", help="what the model is called")
    parser.add_argument("--dataset", help="what its rows are called")
    asked = parser.parse_args(arguments)
    try:
        model = FinishedModel.at(asked.run_dir)
        files = export(
            model,
            asked.form,
            asked.output.resolve(),
            quantization=asked.quantization,
            name=asked.name,
            dataset=asked.dataset,
        )
    except Exception as error:  # whatever a library raises, who asked must learn why
        if not isinstance(error, ExportRefused):
            log.exception("export_failed")
        _tell(error=explain(error).model_dump())
        return 1
    _tell(files=files)
    return 0


def _tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
