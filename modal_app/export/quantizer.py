"""Quantisations that only llama.cpp makes, where its library is."""

from __future__ import annotations

import ctypes
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modal_app.export.finished import FinishedModel, Progress
from modal_app.export.gguf_file import QUANTIZATIONS, write_gguf
from modal_app.export.refusal import ExportRefused

ALL_QUANTIZATIONS = (*QUANTIZATIONS, "q4_k_m")


def write_quantized(
    model: FinishedModel, target: Path, quantization: str, *, name: str, progress: Progress
) -> None:
    """`target` holds the model in one of ALL_QUANTIZATIONS; q4_k_m takes about 4.8 bits a weight.

    Raises ExportRefused, for q4_k_m also where llama-cpp-python is not installed.
    """
    if quantization in QUANTIZATIONS:
        write_gguf(model, target, quantization, name=name, progress=progress)
        return
    if find_spec("llama_cpp") is None:
        raise ExportRefused(
            f"{quantization} is made by llama.cpp's quantizer, which the export image at Modal has and this"
            " machine has not. Take q8_0 here, or run the export there.",
            code="quantizer_missing",
        )
    llama_cpp: Any = import_module("llama_cpp")
    whole = target.with_name("whole.gguf")
    try:
        write_gguf(model, whole, "f16", name=name, progress=progress)
        wanted = llama_cpp.llama_model_quantize_default_params()
        wanted.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
        code = llama_cpp.llama_model_quantize(bytes(whole), bytes(target), ctypes.byref(wanted))
        if code:
            raise ExportRefused(f"llama.cpp's quantizer ended with {code}. Take q8_0.", "quantizer_failed")
    finally:
        whole.unlink(missing_ok=True)
