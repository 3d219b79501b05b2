"""The Modelfile: Ollama asks the model exactly as it was trained to be asked."""

from __future__ import annotations

import json

from modal_app.export.finished import FinishedModel
from modal_app.export.refusal import ExportRefused
from modal_app.export.turns import Turns, turns_of

_REMARKS = {
    "trims": "In training, white space at the ends of a message was taken away. Ollama cannot; send none.",
    "drops_reasoning": "In training, earlier answers stood without their reasoning. Send them without.",
    "no_system": "The template that it was trained under has no place for a system message: none is sent.",
}


def modelfile(model: FinishedModel, gguf_name: str) -> str:
    """The text of a Modelfile beside the GGUF file. Raises ExportRefused: see `turns_of`.

    There is no SYSTEM: what the template puts where no system message is given stands in TEMPLATE.
    """
    turns = turns_of(model.tokenizer)
    bos = str(model.tokenizer.bos_token or "")
    stops = [str(token) for token in model.tokenizer.convert_ids_to_tokens(list(model.stop_ids))]
    lines = [
        *(f"# {remark}" for remark in remarks(turns)),
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{go_template(turns, bos)}"""',
        *(f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop),  # Ollama knows no escape there
    ]
    return "\n".join(lines) + "\n"


def remarks(turns: Turns) -> list[str]:
    """Where a prompt can differ from training all the same, for people."""
    holds = {
        "trims": turns.trims,
        "drops_reasoning": turns.drops_reasoning,
        "no_system": turns.before_system is None,
    }
    return [text for name, text in _REMARKS.items() if holds[name]]


def go_template(turns: Turns, bos: str) -> str:
    """The joints as a template of Go's text/template, as Ollama runs it.

    Without BOS: the GGUF file says whether a text begins with it, and Ollama would put a second one before
    it. The last answer stays open, so that a begun answer is gone on with.
    """
    opening, before_system = (
        _quoted(text.removeprefix(bos)) for text in (turns.opening, turns.before_system or "")
    )
    system, to_user = "{{ .Content }}", _quoted(turns.system_to_user)
    if turns.before_system is None:
        led = late = ""
    elif turns.system_place == "first":
        led, late = f"{before_system}{system}{to_user}", ""
    else:
        led, late = "", "{{ if and $last $.System }}{{ $.System }}" + to_user + "{{ end }}"
    to_answer, to_assistant = _quoted(turns.user_to_answer), _quoted(turns.user_to_assistant)
    if to_answer != to_assistant:
        to_answer = "{{ if $last }}" + to_answer + "{{ else }}" + to_assistant + "{{ end }}"
    is_first = "(eq $i 0)"
    if turns.system_place == "last":  # the opening stands before the first question all the same
        is_first = '(or (eq $i 0) (and (eq $i 1) (eq (index $.Messages 0).Role "system")))'
    return "\n".join(
        (
            "{{- range $i, $_ := .Messages }}",
            "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
            '{{- if eq .Role "system" }}' + led,
            '{{- else if eq .Role "user" }}{{ if ' + is_first + " }}" + opening + "{{ end }}" + late
            + "{{ .Content }}" + to_answer,
            '{{- else if eq .Role "assistant" }}{{ .Content }}{{ if not $last }}'
            + _quoted(turns.assistant_to_user)
            + "{{ end }}",
            "{{- end }}",
            "{{- end }}",
        )
    )  # fmt: skip


def _quoted(text: str) -> str:
    """An action that prints the text; nothing for nothing."""
    if not text:
        return ""
    return "{{ " + _string(text) + " }}"


def _string(text: str) -> str:
    if any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise ExportRefused("The chat template prints text that is no Unicode.")
    return json.dumps(text, ensure_ascii=False)  # Go reads each of JSON's escapes in the same way
