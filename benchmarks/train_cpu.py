"""Tuning on one core: ours, against TRL as it comes and against TRL as its documentation says it is fastest.

The model is a Llama of 1.4 million weights, random at first; adapters are trained on what came out of that.
The rows are as long as chats are: half below 90 tokens, a few of 300. Counted are the tokens of the rows,
never what fills a batch up, by the seconds that the processor spends on the steps. All see the same rows in
steps of the same size, so all must end at the same loss on rows that were held out. What telling costs is the
processor time of the callback and of the two threads that write and send.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Literal

from benchmarks.training.contestant import Outcome, Who, Work
from benchmarks.training.runs import endpoint, run
from benchmarks.training.work import Shape, write_base, write_rows

RUNS, ROWS, HELD_OUT = 3, 240, 32
SHAPE = Shape(hidden_size=192, intermediate_size=512, layers=3, heads=6, kv_heads=3, context_tokens=1024)
WORDS = (28, 0.7, 110)  # of an answer
CONTESTANTS: tuple[Who, ...] = ("ours", "plain", "grouped", "packed")
LEARNING_RATES: dict[Literal["full", "lora"], float] = {"full": 2e-3, "lora": 4e-3}
MOST_REPORTING, MOST_LOSS_APART = 0.01, 0.01


def main() -> None:
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        base, tuned = folder / "base", folder / "tuned"
        write_base(base, SHAPE)
        steps: tuple[tuple[Literal["full", "lora"], Path, Path | None], ...] = (
            ("full", base, tuned),
            ("lora", tuned, None),
        )
        for seed, (method, start, keep) in enumerate(steps):
            rows, held_out = folder / f"{method}.jsonl", folder / f"{method}_held_out.jsonl"
            write_rows(rows, ROWS, words=WORDS, seed=2 * seed)
            write_rows(held_out, HELD_OUT, words=WORDS, seed=2 * seed + 1)
            work = Work(
                who="ours", folder=folder, base=start, rows=rows, held_out=held_out, method=method,
                learning_rate=LEARNING_RATES[method], rows_a_step=8, max_length=1024, warm_up_steps=2,
                report_url=url, keep=keep,
            )  # fmt: skip
            print(json.dumps(compare(work)))


def compare(work: Work) -> dict[str, object]:
    """The result for a method, as all benchmarks print it."""
    outcomes: dict[Who, list[Outcome]] = {who: [] for who in CONTESTANTS}
    for _ in range(RUNS):  # in turn, so that other work on the machine disturbs all alike
        for who, taken in outcomes.items():
            keep = work.keep if who == "ours" else None
            outcome = run(work.model_copy(update={"who": who, "keep": keep}), OMP_NUM_THREADS="1")
            taken.append(outcome)
            print(f"{work.method:4} {who:7} {outcome.model_dump_json()}", file=sys.stderr)
    rate = {
        who: statistics.median(outcome.tokens / outcome.seconds for outcome in taken)
        for who, taken in outcomes.items()
    }
    loss = {who: statistics.median(outcome.loss for outcome in taken) for who, taken in outcomes.items()}
    best: Who = max(("grouped", "packed"), key=lambda who: rate[who])
    apart = abs(loss["ours"] / loss[best] - 1)
    reporting_share = statistics.median(
        (outcome.reporting_seconds or 0) / outcome.seconds for outcome in outcomes["ours"]
    )
    if apart > MOST_LOSS_APART or reporting_share > MOST_REPORTING:
        print(f"over 1 %: losses {apart:.2%} apart, telling {reporting_share:.2%}", file=sys.stderr)
    return {
        "name": f"train-cpu-{work.method}",
        "ours": round(rate["ours"]),
        "peer": round(rate[best]),
        "peer_name": f"TRL, {best}",
        "unit": "tokens of rows per second of processor time",
        "ratio_to_peer": round(rate["ours"] / rate[best], 2),
        "plain": round(rate["plain"]),
        "plain_name": "TRL, as it comes",
        "ratio_to_plain": round(rate["ours"] / rate["plain"], 2),
        "loss": {who: round(value, 4) for who, value in loss.items()},
        "loss_apart_percent": round(100 * apart, 2),
        "reporting_percent": round(100 * reporting_share, 2),
        "n": RUNS,
    }


if __name__ == "__main__":
    main()
