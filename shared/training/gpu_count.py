"""Several GPUs of one machine that train one run: whether they can, asked before anything is paid."""

from __future__ import annotations

from shared.training.config import Method, TrainingConfig
from shared.training.prices import counted_gpu, gpu_offers, gpu_price
from shared.training.spec import RunSpec


def unshared(config: TrainingConfig, method: Method, gpu_count: int) -> str | None:
    """Why so many GPUs cannot share a step of this run, and what to do; None: they can."""
    if gpu_count == 1 or config.batch_size is None:
        return None
    if config.engine != "trl":
        return f"{config.engine.capitalize()} trains on one GPU here. Take gpuCount 1, or engine 'trl'."
    if config.batch_size % gpu_count:
        return (
            f"{gpu_count} GPUs cannot share a batch of {config.batch_size} rows evenly."
            f" Take a batchSize that is a multiple of {gpu_count}, or another gpuCount."
        )
    if method == "kto" and config.batch_size < 2 * gpu_count:
        return f"KTO compares rows, so each GPU needs two. Take a batchSize of {2 * gpu_count} or more."
    return None


def unavailable(spec: RunSpec, provider: str, *, local_gpus: int) -> str | None:
    """Why a provider of our trainer does not have the GPUs of this run, and what to do; None: it has."""
    count, gpu = spec.gpu_count, spec.gpu
    if provider == "local":
        there = f"{local_gpus} GPU{'s' if local_gpus > 1 else ''}" if local_gpus else "no GPU with CUDA"
        missing = f"This machine has {there}. Take a smaller gpuCount, or another provider."
        return missing if count > max(1, local_gpus) else None
    if gpu and ":" in gpu:
        return f"How many is said by gpuCount: give {gpu.partition(':')[0]} as the gpu."
    if count == 1:
        return None
    offers = gpu_offers(provider, count)
    if gpu is None:
        unknown = f"{provider} is not known to have a machine with {count} GPUs. Take another gpuCount."
        return None if offers else unknown
    if gpu_price(provider, counted_gpu(provider, gpu, count)) not in offers:
        return f"{provider} is not known to have {gpu} with {count} GPUs. Leave gpu out, or take another."
    return None
