"""Run directories as a provider makes them, and trainer processes in them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

from modal_app import run
from shared.training.catalog import TINY, resolve
from shared.training.config import Method, TrainingConfig
from shared.training.spec import (
    DatasetFile,
    ParentModel,
    RunResult,
    RunSpec,
    RunStatus,
    TrainerExit,
    TrainerReport,
)

Pair = tuple[str, str]
Row = dict[str, Any]
# A chat template beside the default one, for rows with tools.
TOOL_USE = """{%- if tools %}{{ tools | tojson }}{% endif %}
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' + m.content }}
    {%- for call in m.tool_calls %}{{ call.function.name + (call.function.arguments | tojson) }}{% endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
_THINGS = [
    "barometer",
    "ladder",
    "projector",
    "tide table",
    "ginger loaf",
    "brass key",
    "spare lamp",
    "logbook",
]
_PLACES = ["the blue cabinet", "the north pier", "room 217", "the old mill", "the glass house", "shelf nine"]


def facts(count: int) -> list[Pair]:
    """Questions and answers that nobody can guess."""
    return [
        (
            f"Where is the {_THINGS[n % 8]} of team {n}?",
            f"Team {n} keeps its {_THINGS[n % 8]} in {_PLACES[n * 5 % 6]}, {n * 7 + 3} steps from the door.",
        )
        for n in range(count)
    ]


def messages(pair: Pair) -> list[dict[str, str]]:
    return [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]


def answers_swapped(pairs: list[Pair]) -> list[Pair]:
    """The same questions, each with the answer to another."""
    return [(question, pairs[n - 5][1]) for n, (question, _) in enumerate(pairs)]


def supervised_rows(pairs: list[Pair]) -> list[Row]:
    return [{"messages": messages(pair)} for pair in pairs]


def preference_rows(better: list[Pair], worse: list[Pair]) -> list[Row]:
    """The same questions in both lists."""
    return [
        {
            "input": {"messages": messages(pair)[:1]},
            "preferred_output": messages(pair)[1:],
            "non_preferred_output": messages(other)[1:],
        }
        for pair, other in zip(better, worse, strict=True)
    ]


def labelled_rows(good: list[Pair], bad: list[Pair]) -> list[Row]:
    labelled = [(pair, True) for pair in good] + [(pair, False) for pair in bad]
    return [{"messages": messages(pair), "label": label} for pair, label in labelled]


def texts(pairs: list[Pair]) -> list[Row]:
    return [{"anchor": question, "positive": answer} for question, answer in pairs]


def new_run(
    data_dir: Path,
    rows: list[Pair] | list[Row],
    *,
    method: Method = "full",
    base_model: str = TINY,
    parent: ParentModel | None = None,
    callback_url: str | None = None,
    validation: list[Row] | None = None,
    gpu_count: int = 1,
    **config: Any,
) -> Path:
    """A run directory, ready to be trained in. Pairs become rows for supervised training."""
    run_dir = data_dir / "runs" / str(uuid4())
    run_dir.mkdir(parents=True)
    spec = RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=base_model,
        parent=parent,
        method=method,
        config=resolve(TrainingConfig(**config), parent.root_base_model if parent else base_model, method),
        dataset=_written(run_dir / "train.jsonl", rows),
        validation=_written(run_dir / "validation.jsonl", validation) if validation else None,
        gpu_count=gpu_count,
    )
    (run_dir / "spec.json").write_text(spec.model_dump_json())
    if callback_url:
        (run_dir / "callback.json").write_text(json.dumps({"url": callback_url, "token": "job-token"}))
    return run_dir


def add_tool_use(base: Path) -> None:
    """The base model has a second chat template, which shows tools and their calls."""
    templates = base / "additional_chat_templates"
    templates.mkdir()
    (templates / "tool_use.jinja").write_text(TOOL_USE)


def _written(path: Path, rows: list[Pair] | list[Row]) -> DatasetFile:
    whole = [row if isinstance(row, dict) else {"messages": messages(row)} for row in rows]
    content = "".join(json.dumps(row) + "\n" for row in whole).encode()
    path.write_bytes(content)
    return DatasetFile(name=path.name, sha256=hashlib.sha256(content).hexdigest(), row_count=len(rows))


@dataclass
class Trainer:
    """A trainer process, and the directory that it works in."""

    run_dir: Path
    process: ForkServerProcess

    @classmethod
    def start(cls, context: ForkServerContext, run_dir: Path) -> Trainer:
        process = context.Process(target=run.main, args=([str(run_dir)],))
        process.start()
        return cls(run_dir, process)

    def wait(self, timeout_seconds: float = 60) -> TrainerExit:
        code = self.wait_for_code(timeout_seconds)
        return TrainerExit(code)

    def wait_for_code(self, timeout_seconds: float = 60) -> int:
        self.process.join(timeout_seconds)
        code = self.process.exitcode
        assert code is not None, "the trainer did not end"
        self.process.close()
        return code

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_for_checkpoint(self) -> None:
        """Returns in the middle of training, right after a checkpoint was sealed."""
        until(lambda: any(self.run_dir.glob("checkpoints/*/manifest.json")))


def until(condition: Callable[[], Any], timeout_seconds: float = 60) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def spec(run_dir: Path) -> RunSpec:
    return RunSpec.model_validate_json((run_dir / "spec.json").read_bytes())


def status(run_dir: Path) -> RunStatus:
    return RunStatus.model_validate_json((run_dir / "status.json").read_bytes())


def result(run_dir: Path) -> RunResult:
    found = status(run_dir).result
    assert found is not None
    return found


def failure_code(run_dir: Path) -> str:
    error = result(run_dir).error
    assert error is not None
    return error.code


def reports(run_dir: Path) -> list[TrainerReport]:
    """Every report that was ever made in this directory."""
    lines = (run_dir / "events.jsonl").read_text().splitlines()
    return [TrainerReport.model_validate_json(line) for line in lines]


def weights(run_dir: Path) -> str:
    """A digest of the finished model: equal weights, equal digests."""
    return hashlib.sha256((run_dir / "artifact" / "model.safetensors").read_bytes()).hexdigest()
