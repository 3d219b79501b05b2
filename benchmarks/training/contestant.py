"""One training run in a process of its own: `python -m benchmarks.training.contestant`, its Work on stdin.

Prints what it took as one line of JSON. Everybody gets the same base model, rows, rows a step, learning rate
and seed; the loss is taken afterwards on the same held-out rows, by the same code.

ours: the product's own parts. plain: TRL as its documentation begins, the model by its path and SFTConfig as
it stands. The others are what the documentation advises, with nothing computed twice where memory suffices:
grouped has rows of one length in a batch, packed puts rows on lines of max_length and so decides itself what
a step holds, flash does that with FlashAttention, liger with Liger's kernels.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel

Who = Literal["ours", "plain", "grouped", "packed", "flash", "liger"]
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


class Work(BaseModel):
    """What one run has to do, and in which folder."""

    who: Who
    folder: Path
    base: Path
    rows: Path
    held_out: Path
    method: Literal["full", "lora", "qlora"]
    learning_rate: float
    rows_a_step: int
    max_length: int  # tokens; no row is longer
    warm_up_steps: int = 0  # that are not counted
    report_url: str
    keep: Path | None = None  # where the tuned model is left
    profile: bool = False  # prints what the time went to, on stderr


class Outcome(BaseModel):
    """Seconds of the processor, or on a GPU of the clock; tokens are of rows alone. Without the warm-up."""

    seconds: float
    tokens: int
    tokens_per_second: float  # the median over the steps
    reporting_seconds: float | None = None  # of these, spent on telling how it goes; None: nobody was told
    steps: int  # all of them
    loss: float  # mean over the tokens of the held-out answers
    peak_bytes: int  # on a GPU as its allocator says, else of the process


def main() -> None:
    work = Work.model_validate_json(sys.stdin.read())
    outcome = _ours(work) if work.who == "ours" else _theirs(work)
    print(outcome.model_dump_json())


def _ours(work: Work) -> Outcome:
    """Put together as modal_app/loop.py does it."""
    from modal_app.methods.language import LanguageLearner
    from modal_app.progress import training_callback
    from modal_app.session.directory import RunDirectory
    from modal_app.session.reporter import Reporter
    from modal_app.session.stop import StopSignal
    from modal_app.task import Task

    directory = RunDirectory(_run_directory(work))
    spec, stop = directory.spec(), StopSignal(directory.cancel_file)
    reporter = Reporter(directory, spec, stop)
    reporter.claim()
    task = Task(spec, directory.dataset(spec.dataset), None, directory, reporter, stop)
    watch = training_callback(reporter, stop, spec.fingerprint())
    told, clock = _timed(watch), _clock(work)
    trainer = LanguageLearner(task).trainer([watch, clock])
    before = _thread_seconds("reporter", "outbox")
    _train(trainer, work)
    told_seconds = sum(told) + _thread_seconds("reporter", "outbox") - before
    return _outcome(work, trainer, clock, reporting_seconds=told_seconds)


def _run_directory(work: Work) -> Path:
    from shared.training.catalog import resolve
    from shared.training.config import TrainingConfig
    from shared.training.spec import DatasetFile, RunSpec

    run_dir = work.folder / str(uuid4())
    run_dir.mkdir()
    content = work.rows.read_bytes()
    (run_dir / "train.jsonl").write_bytes(content)
    config = TrainingConfig(
        epochs=1,
        batch_size=work.rows_a_step,
        learning_rate=work.learning_rate,
        max_length=work.max_length,
        lora_dropout=LORA["lora_dropout"],
        warmup_ratio=0.0,
        lr_scheduler="linear",
        save_steps=10**6,
    )
    spec = RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=str(work.base),
        method=work.method,
        config=resolve(config, str(work.base), work.method),
        dataset=DatasetFile(sha256=hashlib.sha256(content).hexdigest(), row_count=content.count(b"\n")),
    )
    (run_dir / "spec.json").write_text(spec.model_dump_json())
    (run_dir / "callback.json").write_text(json.dumps({"url": work.report_url, "token": "of-a-job"}))
    return run_dir


def _theirs(work: Work) -> Outcome:
    """TRL's own trainer, with prompt and completion apart as it wants them for a loss on answers alone."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    turns = [json.loads(line)["messages"] for line in work.rows.read_text().splitlines()]
    dataset = Dataset.from_list([{"prompt": said[:1], "completion": said[1:]} for said in turns])
    on_cuda = torch.cuda.is_available()
    arguments: dict[str, Any] = {
        "output_dir": str(work.folder / str(uuid4())),
        "num_train_epochs": 1,
        "per_device_train_batch_size": work.rows_a_step,
        "learning_rate": work.learning_rate,
        "seed": 42,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": not on_cuda,
        "include_num_input_tokens_seen": "non_padding",
    }
    if work.who != "plain":
        arguments |= {
            "gradient_checkpointing": False,
            "max_length": work.max_length,
            "model_init_kwargs": {"dtype": "bfloat16" if on_cuda else "float32"},
            "bf16": on_cuda,
        }
    if work.who == "grouped":
        arguments |= {"train_sampling_strategy": "group_by_length"}
    if work.who in ("packed", "flash", "liger"):
        arguments |= {"packing": True, "per_device_train_batch_size": _lines_a_step(work, turns)}
    if work.who in ("flash", "liger"):
        arguments["model_init_kwargs"] |= {"attn_implementation": "kernels-community/flash-attn2"}
    if work.who == "liger":
        arguments["model_init_kwargs"] |= {"use_kernels": True}
    adapters = LoraConfig(**LORA, target_modules="all-linear", task_type="CAUSAL_LM")
    clock = _clock(work)
    trainer = SFTTrainer(
        model=str(work.base),
        args=SFTConfig(**arguments),
        train_dataset=dataset,
        peft_config=adapters if work.method == "lora" else None,
        callbacks=[clock],
    )
    _train(trainer, work)
    return _outcome(work, trainer, clock)


def _lines_a_step(work: Work, turns: list[list[dict[str, str]]]) -> int:
    """So many packed lines hold about as many tokens as a step of rows does."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(work.base)
    lengths = [len(tokenizer.apply_chat_template(said)["input_ids"]) for said in turns]
    return max(1, round(work.rows_a_step * sum(lengths) / len(lengths) / work.max_length))


def _train(trainer: Any, work: Work) -> None:
    if not work.profile:
        trainer.train()
        return
    import torch
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=kinds) as profiler:
        trainer.train()
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=30), file=sys.stderr)


def _outcome(work: Work, trainer: Any, clock: Any, *, reporting_seconds: float | None = None) -> Outcome:
    import torch

    on_cuda = torch.cuda.is_available()
    peak_bytes = torch.cuda.max_memory_reserved() if on_cuda else _process_peak_bytes()
    if work.keep:
        trainer.model.save_pretrained(work.keep)
        trainer.processing_class.save_pretrained(work.keep)
    seconds, tokens = zip(*clock.steps[work.warm_up_steps :], strict=True)
    rates = sorted(count / taken for taken, count in zip(seconds, tokens, strict=True))
    return Outcome(
        seconds=sum(seconds),
        tokens=sum(tokens),
        tokens_per_second=rates[len(rates) // 2],
        reporting_seconds=reporting_seconds,
        steps=trainer.state.global_step,
        loss=_loss(trainer.model, work),
        peak_bytes=peak_bytes,
    )


def _process_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _loss(model: Any, work: Work) -> float:
    """On the held-out rows."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoTokenizer

    from modal_app.methods.data import read_conversations, tokenise

    tokenizer: Any = AutoTokenizer.from_pretrained(work.base)
    limits: dict[str, Any] = {"max_length_tokens": work.max_length, "stop_ids": {tokenizer.eos_token_id}}
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in tokenise(read_conversations(work.held_out), tokenizer, **limits).rows:
            ids, labels = (torch.tensor([row[name]]).to(model.device) for name in ("input_ids", "labels"))
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(cross_entropy(logits, labels[0, 1:], reduction="sum"))
            count += int((labels[0, 1:] >= 0).sum())
    return total / count


def _clock(work: Work) -> Any:
    """A callback that notes of each step what it took, and how many tokens of rows it had."""
    import torch
    from transformers import TrainerCallback

    on_cuda = torch.cuda.is_available()

    def now() -> float:
        if not on_cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    class Clock(TrainerCallback):
        steps: list[tuple[float, int]]
        begun, seen = 0.0, 0

        def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            self.steps, self.begun = [], now()

        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            ended, seen = now(), int(state.num_input_tokens_seen)
            self.steps.append((ended - self.begun, seen - self.seen))
            self.begun, self.seen = ended, seen

    return Clock()


def _timed(callback: Any) -> list[float]:
    """The seconds that each call of the callback takes, as they come."""
    seconds: list[float] = []

    def timing(method: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                seconds.append(time.thread_time() - started)

        return timed

    for name in dir(callback):
        if name.startswith("on_"):
            setattr(callback, name, timing(getattr(callback, name)))
    return seconds


def _thread_seconds(*names: str) -> float:
    """What living threads of these names have had of the processor."""
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in threading.enumerate()
        if thread.name in names and thread.ident
    ]
    return sum(map(time.clock_gettime, clocks))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    main()
