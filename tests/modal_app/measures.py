"""What trained models do, taken by loading them anew in a process that has the libraries."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.modal_app.trainers import Pair, Row


def right_answers(
    libraries: ForkServerContext, data_dir: Path, questions: list[tuple[str, list[Pair]]]
) -> list[int]:
    """Of each model: how many of these questions it answers as expected, asked by the inference engine."""
    found: list[int] = elsewhere(libraries, _right_answers, data_dir, questions)
    return found


def margins(libraries: ForkServerContext, models: list[Path], rows: list[Row]) -> list[float]:
    """Of each model: by how much the better answer is likelier than the worse, in nats, on average."""
    found: list[float] = elsewhere(libraries, _margins, models, rows)
    return found


def loss(libraries: ForkServerContext, model: Path, rows: list[Row]) -> float:
    """Nats a token of the last answers."""
    found: float = elsewhere(libraries, _loss, model, rows)
    return found


def recall(libraries: ForkServerContext, model: Path, pairs: list[Pair]) -> float:
    """The share of questions whose own answer is the nearest."""
    found: float = elsewhere(libraries, _recall, model, pairs)
    return found


def elsewhere(libraries: ForkServerContext, measure: Callable[..., Any], *arguments: Any) -> Any:
    """What `measure` returns in a process that has the libraries."""
    here, there = libraries.Pipe(duplex=False)
    process = libraries.Process(target=_send, args=(there, measure, arguments))
    process.start()
    there.close()
    found = here.recv()
    process.join(30)
    process.close()
    return found


def _send(connection: Connection, measure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    connection.send(measure(*arguments))


def _right_answers(data_dir: Path, questions: list[tuple[str, list[Pair]]]) -> list[int]:
    from modal_app.serving.chat import ChatMessage, ChatRequest
    from modal_app.serving.engine import Engine

    engine, found = Engine(data_dir), []
    for model, pairs in questions:
        asked = [ChatMessage(role="user", content=question) for question, _ in pairs]
        requests = [ChatRequest(model=model, messages=[message], max_tokens=96) for message in asked]
        answers = [engine.complete(request).content for request in requests]
        found.append(sum(said == expected for said, (_, expected) in zip(answers, pairs, strict=True)))
    return found


def _margins(models: list[Path], rows: list[Row]) -> list[float]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = []
    for directory in models:
        model = AutoModelForCausalLM.from_pretrained(directory).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ends = ("preferred_output", "non_preferred_output")
        better, worse = (
            sum(_likelihood(model, tokenizer, row["input"]["messages"], row[end]) for row in rows)
            for end in ends
        )
        found.append((better - worse) / len(rows))
    return found


def _loss(directory: Path, rows: list[Row]) -> float:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    nats, tokens = 0.0, 0
    for row in rows:
        *prompt, answer = row["messages"]
        nats -= _likelihood(model, tokenizer, prompt, [answer])
        tokens += len(tokenizer(answer["content"])["input_ids"]) + 1  # and its end
    return nats / tokens


def _likelihood(model: Any, tokenizer: Any, prompt: list[Row], end: list[Row]) -> float:
    import torch

    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template(prompt + end)["input_ids"]
    with torch.no_grad():
        chances = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
    last = max(place for place, token in enumerate(whole) if token == tokenizer.eos_token_id)
    return sum(float(chances[place - 1, whole[place]]) for place in range(len(asked), last + 1))


def _recall(directory: Path, pairs: list[Pair]) -> float:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(directory), device="cpu")
    asked, answers = ([pair[side] for pair in pairs] for side in (0, 1))
    nearest = model.similarity(model.encode(asked), model.encode(answers)).argmax(dim=1).tolist()
    return sum(index == place for place, index in enumerate(nearest)) / len(pairs)
