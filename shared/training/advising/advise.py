"""What to train, how, and where: the rules put together. Pure: equal questions give equal advice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from shared.training import catalog
from shared.training.advising import rules
from shared.training.advising.model import Advice, Choice, Question, Rejected
from shared.training.advising.places import LOCAL, Option, options
from shared.training.config import Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.sizing.bases import fixed_memory
from shared.training.spec import ParentModel, RunSpec, root_of

# Open licences without terms to accept, the largest first. Without a budget the second is the first that is
# tried: it is the largest that trains on one card of 24 GB.
_LADDER = (
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-4B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-0.6B",
    "HuggingFaceTB/SmolLM2-360M-Instruct",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
)
_FOR_SEARCH = ("intfloat/multilingual-e5-small", "sentence-transformers/all-MiniLM-L6-v2")
_NOBODY = UUID(int=0)  # an estimate belongs to no job
_PRICES = "FineFlow, shared/training/prices.json and the estimate of this run"


@dataclass(frozen=True)
class _Candidate:
    """One base model with one method, sized for the rows, in the best place for it."""

    method: Choice
    base_model: str
    config: TrainingConfig
    settings: list[Choice]
    option: Option


def advise(question: Question) -> Advice | None:
    """The first base and method, of the best first, that some place trains within the limits.

    Where none does it is the one that comes nearest, and `meets` is False. None: there are no rows for any
    method, or no place can hold any of it.
    """
    rejected: list[Rejected] = []
    nearest: _Candidate | None = None
    for candidate in _candidates(question, rejected):
        objection = candidate.option.objection
        if objection is None:
            return _advice(question, candidate, rejected)
        rejected.append(Rejected(f"{candidate.base_model} with {candidate.method.value}", f"{objection}."))
        if nearest is None or candidate.option.excess < nearest.option.excess:
            nearest = candidate
    return _advice(question, nearest, rejected) if nearest else None


def _candidates(question: Question, rejected: list[Rejected]) -> Iterator[_Candidate]:
    for base_model in _bases(question):
        root = question.root_of(base_model)
        for method in rules.methods(question):
            name: Method = method.value
            file = rules.file_for(name, question)
            if file is None or file.row_count == 0:
                continue
            if reason := catalog.unfit(root, name):
                rejected.append(Rejected(f"{base_model} with {name}", reason))
                continue
            shape = question.shape or catalog.shape(root)
            config, settings = rules.settings(name, root, shape, file)
            spec = _spec(name, base_model, question.parent, config, file)
            found = options(question, spec, file)
            if not found:
                rejected.append(Rejected(f"{base_model} with {name}", "no place here has the memory for it."))
                continue
            yield _Candidate(method, base_model, config, settings, found[0])


def _bases(question: Question) -> tuple[str, ...]:
    if question.base_model is not None:
        return (question.base_model,)
    if question.goal == "search" or question.method == "embedding":
        return _FOR_SEARCH
    return _LADDER if question.budget_usd is not None else _LADDER[1:]


def _advice(question: Question, candidate: _Candidate, rejected: list[Rejected]) -> Advice:
    option, method = candidate.option, candidate.method
    base, place = _base_choice(question, candidate), _place_choice(option)
    return Advice(
        method=method.value,
        base_model=candidate.base_model,
        config=candidate.config,
        place=option.place,
        gpu=option.gpu,
        estimate=option.estimate,
        meets=option.objection is None,
        choices=(method, base, *candidate.settings, place),
        rejected=(*rejected, *_against_full(question, candidate)),
        next_step=_next_step(question, method.value),
    )


def _base_choice(question: Question, candidate: _Candidate) -> Choice:
    if question.base_model is not None:
        return Choice("base_model", question.base_model, "You asked for it.", "you")
    if candidate.method.value == "embedding":
        why = "Small, made for search, and reads 94 languages."
        return Choice("base_model", candidate.base_model, why, "its model card")
    limits = "budget and deadline" if question.budget_usd is not None else "the time that is given"
    why = f"The largest of the open models without terms to accept that keeps to {limits}."
    return Choice("base_model", candidate.base_model, why, rules.CATALOGUE)


def _place_choice(option: Option) -> Choice:
    where = option.place if option.gpu is None else f"{option.place} {option.gpu}"
    if option.objection is not None:
        why = f"Nothing keeps to the limits; this comes nearest: {option.objection}."
        return Choice("place", where, why, _PRICES)
    if option.place == LOCAL:
        return Choice("place", where, "This machine is fast enough, and costs nothing.", _PRICES)
    return Choice("place", where, "The cheapest place that holds the run and ends it in time.", _PRICES)


def _against_full(question: Question, candidate: _Candidate) -> list[Rejected]:
    """What training all weights would take, where adapters were chosen without being asked for."""
    shape = question.shape or catalog.shape(question.root_of(candidate.base_model))
    if question.method is not None or candidate.method.value not in ("lora", "qlora") or shape is None:
        return []
    full, chosen = (fixed_memory(shape, method) / 1e9 for method in ("full", candidate.method.value))
    why = f"{full:.1f} GB before a token passes, against {chosen:.1f} GB; so few tokens it learns no better."
    return [Rejected(f"{candidate.base_model} with full", why)]


def _next_step(question: Question, method: Method) -> str | None:
    rows = {kind: file.row_count for kind, file in question.files.items()}
    if method in ("full", "lora", "qlora") and rows.get("preference"):
        return f"Then dpo on the {rows['preference']:,} preference pairs, with the tuned model as base model."
    if method in ("full", "lora", "qlora") and rows.get("kto"):
        return f"Then kto on the {rows['kto']:,} marked answers, with the tuned model as base model."
    return None


def _spec(
    method: Method, base_model: str, parent: ParentModel | None, config: TrainingConfig, file: TrainingFile
) -> RunSpec:
    dataset, validation = file.parts
    return RunSpec(
        job_id=_NOBODY,
        attempt=1,
        run_id=_NOBODY,
        base_model=base_model,
        parent=parent,
        method=method,
        config=catalog.resolve(config, root_of(base_model, parent), method),
        dataset=dataset,
        validation=validation,
    )
