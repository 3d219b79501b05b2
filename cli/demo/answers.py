"""The same questions before and after training, answered by the same inference server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from cli.commands.chat import ask, text_of
from cli.commands.datasets import valid_pairs
from cli.commands.training import TINY
from cli.demo.facts import Telling
from cli.demo.questions import Question, is_right, pick_questions
from cli.demo.story import Answered
from cli.exits import CliError

DEPLOYMENT = "support"
QUESTIONS = 5
SEED = 7
ANSWER_TOKENS = 200
REAL_BASE_MODEL = "Qwen/Qwen3-0.6B"


def warm_up(telling: Telling) -> Callable[[], Awaitable[None]]:
    """The inference server loads its libraries meanwhile; what is returned ends the waiting for it."""

    async def first_word() -> None:
        with contextlib.suppress(Exception):  # the chapter that needs the server will say what is wrong
            await _answer(telling, TINY, "Hello", max_tokens=1)

    task = asyncio.create_task(first_word())

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return stop


async def ask_before(telling: Telling, dataset_id: str) -> list[Question]:
    """Questions from the training pairs, and what the untrained model says to them."""
    with telling.story.chapter("Asked before training"):
        questions = pick_questions(await valid_pairs(telling.client, dataset_id), QUESTIONS, SEED)
        if not questions:
            raise CliError("No training pair asks a question that only one answer fits.")
        for question in questions:
            telling.before[question.text] = await _answer(telling, TINY, question.text)
        right = sum(is_right(telling.before[one.text], one.expected) for one in questions)
        telling.facts.questions, telling.facts.answers_right_before = len(questions), right
        telling.story.say(f"The base model {TINY} answers {right} of {len(questions)} questions.")
    return questions


async def ask_after(telling: Telling, questions: Sequence[Question]) -> None:
    """The same questions again, through the deployment's name, and both answers side by side."""
    with telling.story.chapter("Asked again, through the deployment's name"):
        answered = [await _answered(telling, question) for question in questions]
        right = sum(one.is_right_after for one in answered)
        telling.facts.answers_right_after = right
        telling.story.answers(answered)
        telling.story.say(f"{right} of {len(answered)} right; before training it was 0.")
    telling.story.rule()
    telling.story.say(
        "The questions come from the training pairs: a tiny model proves the pipeline, not intelligence. "
        "A real base model takes one command, with `make up` running and a dataset of yours:"
    )
    telling.story.command(f"fineflow train DATASET --base-model {REAL_BASE_MODEL} --method lora --follow")


async def _answered(telling: Telling, question: Question) -> Answered:
    before, after = telling.before[question.text], await _answer(telling, DEPLOYMENT, question.text)
    return Answered(
        question, before, after, is_right(before, question.expected), is_right(after, question.expected)
    )


async def _answer(telling: Telling, model: str, question: str, max_tokens: int = ANSWER_TOKENS) -> str:
    options = {"model": model, "max_tokens": max_tokens, "temperature": 0, "project_id": telling.project}
    return text_of(await ask(telling.client, options, [{"role": "user", "content": question}]))
