"""What this machine computes with. Imports torch only when asked."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shared.training.config import ADAPTERS, Engine, Method

if TYPE_CHECKING:
    import torch

Device = Literal["cuda", "mps", "cpu"]
_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
_LIBRARIES_OF: dict[Method, tuple[str, ...]] = {
    "qlora": ("bitsandbytes",),
    "embedding": ("sentence-transformers",),
}


class Memory(NamedTuple):
    """Of the GPU if there is one, else of this machine. None: not known."""

    peak_bytes: int | None
    total_bytes: int | None


def device() -> Device:
    """Where training runs."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def take(number: int) -> None:
    """This process computes on the GPU with that number from now on; without CUDA nothing happens."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number)


def weights_dtype(method: Method) -> torch.dtype:
    """How the base model is held while it trains.

    bfloat16 on CUDA under adapters, which are float32. Where all weights are trained they are held in
    float32 and computed with in bfloat16: an update of 2e-5 of a weight is less than bfloat16 can tell, and
    would be lost. For QLoRA this is what its 4 bits are unpacked to.
    """
    import torch

    return torch.bfloat16 if device() == "cuda" and method in ADAPTERS else torch.float32


def saved_dtype() -> torch.dtype:
    """How the finished model is written: what serving on the same machine computes with."""
    import torch

    return torch.bfloat16 if device() == "cuda" else torch.float32


def gpu_memory_bytes() -> int | None:
    """The most that was reserved since the process started; None without CUDA."""
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else None


def memory() -> Memory:
    """What the process has held at most, and what it could hold: for what went wrong, not for every step."""
    import torch

    kind = device()
    if kind == "cuda":
        return Memory(
            gpu_memory_bytes(),
            int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory),
        )
    if kind == "mps":
        return Memory(None, int(torch.mps.recommended_max_memory()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return Memory(peak, total if allowed == resource.RLIM_INFINITY else min(total, allowed))


def weights_bytes(model: torch.nn.Module) -> int:
    """Of all parameters, as they are held."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def describe(method: Method, engine: Engine) -> dict[str, Any]:
    """For the recipe of a model: what would be needed to repeat it."""
    import torch

    kind = device()
    libraries = {*_LIBRARIES, *_LIBRARIES_OF.get(method, ()), engine}
    return {
        "device": torch.cuda.get_device_name(0) if kind == "cuda" else kind,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in sorted(libraries)},
    }
