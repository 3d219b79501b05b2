"""The model card: README.md of a model on the Hugging Face Hub, told from the run itself."""

from __future__ import annotations

import json
from typing import Literal

from modal_app.export.finished import FinishedModel
from shared.markdown import line, table
from shared.training.catalog import CATALOG, TINY
from shared.training.config import ADAPTERS
from shared.training.recipe import Recipe

Format = Literal["adapter", "merged", "gguf", "ollama"]

# huggingface.co/docs/hub/model-cards: library_name, and base_model_relation.
_LIBRARIES: dict[Format, str] = {
    "adapter": "peft", "merged": "transformers", "gguf": "llama.cpp", "ollama": "llama.cpp",
}  # fmt: skip
_RELATIONS: dict[Format, str] = {
    "adapter": "adapter", "merged": "finetune", "gguf": "quantized", "ollama": "quantized",
}  # fmt: skip
_LOADING: dict[Format, tuple[str, str]] = {
    "adapter": (
        "python",
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")',
    ),
    "merged": (
        "python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")',
    ),
    "gguf": ("sh", "llama-server --jinja -m model.gguf"),
    "ollama": ("sh", "ollama create tuned -f Modelfile\nollama run tuned"),
}
_LEARNED = {
    "dpo": "which of two answers is the better one",
    "orpo": "the better of two answers, and that it is the better one",
    "kto": "which answers are good and which are not",
}


def model_card(model: FinishedModel, form: Format, *, name: str, dataset: str | None) -> str:
    """Markdown with a head that the Hub reads.

    name: what the model is called. dataset: what its rows are called; None: nobody says. Both may hold
    anything.
    """
    recipe, (base_model, base_revision) = model.recipe, model.base
    known = CATALOG.get(base_model)
    license_id = known.license if known and base_model != TINY else None
    head = [
        "---",
        f"license: {license_id}"
        if license_id
        else "license: # fill in, as the base model and the data allow",
        f"base_model: {json.dumps(base_model, ensure_ascii=False)}",
        f"base_model_relation: {_RELATIONS[form]}",
        f"library_name: {_LIBRARIES[form]}",
        "pipeline_tag: text-generation",
        "tags:",
        "- fineflow",
        f"- {recipe.method}",
        *(["- lora"] if recipe.method in ADAPTERS - {"lora", "qlora"} else []),
        *(["- gguf"] if form in ("gguf", "ollama") else []),
        "---",
    ]
    origin = f"{line(base_model)}, " + (f"commit `{base_revision}`" if base_revision else "no commit known")
    if recipe.root_base_model is not None:
        origin += f", by way of `{recipe.base_model}` (sha256 `{recipe.base_sha256}`)"
    language, code = _LOADING[form]
    text = [
        *head,
        "",
        f"# {line(name)}",
        "",
        f"Tuned from {origin}. It learned {_LEARNED.get(recipe.method, 'to answer')} from its data.",
        "",
        "## Training",
        "",
        *table(_training(model, dataset)),
        "",
        "## Settings",
        "",
        *table(_settings(recipe)),
        "",
        "## Made with",
        "",
        *table([("Device", line(recipe.device)), ("Python", line(recipe.python)), *_libraries(recipe)]),
        "",
        "## Loading it",
        "",
        f"```{language}",
        code,
        "```",
        "",
        "Ask it through its chat template, which is saved with it: other words around a question are not what"
        " it was trained on.",
        "",
        "## Limits",
        "",
        "The losses say how well it fits these rows, not how good its answers are; what it says of anything"
        " else is the base model's. Its data decides what it repeats: look at it before you pass it on.",
    ]
    return "\n".join(text) + "\n"


def _training(model: FinishedModel, dataset: str | None) -> list[tuple[str, str]]:
    recipe, result = model.recipe, model.result
    metrics = result.metrics
    losses = [metrics.get("first_loss"), result.training_loss]
    held = [metrics.get("first_validation_loss"), metrics.get("validation_loss")]
    facts = [
        ("Method", recipe.method),
        ("Rows", _number(metrics.get("training_examples"))),
        ("Left out for their length", _number(metrics.get("rows_too_long"))),
        ("Epochs", str(recipe.config.epochs)),
        ("Steps", _number(metrics.get("steps"))),
        ("Tokens", _number(result.trained_tokens)),
        ("Loss", _change(losses)),
        ("Loss on rows held out", _change(held) if recipe.validation_sha256 else "no rows were held out"),
        ("Seconds", _number(result.duration_seconds and round(result.duration_seconds))),
        ("Data", f"{line(dataset)}; its card: `fineflow datasets export ... --card`" if dataset else "-"),
        ("SHA-256 of the rows", f"`{recipe.dataset_sha256}`"),
        ("Fingerprint of the template", f"`{recipe.template_fingerprint or '-'}`"),
    ]
    margins = [metrics.get("first_reward_margin"), metrics.get("reward_margin")]
    return facts if margins == [None, None] else [*facts, ("Reward margin", _change(margins))]


def _settings(recipe: Recipe) -> list[tuple[str, str]]:
    config = recipe.config.model_dump(mode="json")
    of_adapters = {"lora_r", "lora_alpha", "lora_dropout", "target_modules"}
    left_out = {"epochs", "learning_rate_multiplier", "save_steps", "eval_steps"}
    left_out |= set() if recipe.method in ADAPTERS else of_adapters
    left_out |= set() if recipe.method in ("dpo", "orpo", "kto") else {"beta"}
    return [(f"`{name}`", line(str(value))) for name, value in config.items() if name not in left_out]


def _libraries(recipe: Recipe) -> list[tuple[str, str]]:
    return [(line(name), line(version)) for name, version in sorted(recipe.libraries.items())]


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "-"


def _change(values: list[object]) -> str:
    before, after = (f"{value:.4f}" if isinstance(value, int | float) else "?" for value in values)
    return f"{before} -> {after}"
