"""`fineflow datasets xray` on files alone, with a tokenizer made here."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from cli.main import run

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A byte-level tokenizer without merges: one token a byte."""
    directory = tmp_path / "base"
    directory.mkdir()
    vocabulary = {char: n for n, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|end|>", "<|user|>", "<|assistant|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"eos_token": "<|end|>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text(json.dumps({"max_position_embeddings": 64, "eos_token_id": 256}))
    return directory


def _file(directory: Path, *pairs: tuple[str, str]) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _xray(capsys: pytest.CaptureFixture[str], file: Path, base: Path, *more: str) -> tuple[int, dict]:
    code = run(["datasets", "xray", str(file), "--tokenizer", str(base), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_what_is_trained_is_told_token_by_token(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, data = _xray(capsys, _file(tmp_path, ("Hm?", "Ja 🐝"), ("Long", "x" * 80)), base)
    assert code == 0
    first, second = data["rows"]
    assert [(t["text"], t["state"]) for t in first["tokens"] if t["is_special"]] == [
        ("<|user|>", "masked"),
        ("<|end|>", "masked"),
        ("<|assistant|>", "masked"),
        ("<|end|>", "trained"),
    ]
    assert "".join(t["text"] for t in first["tokens"] if t["state"] == "trained") == "Ja 🐝<|end|>"
    assert (first["trained_tokens"], first["masked_tokens"]) == (8, 6)
    assert second["reason"] == "88 tokens, over the limit of 64: the trainer leaves it out."
    assert {t["state"] for t in second["tokens"]} == {"left_out"}
    assert data["totals"]["trained_tokens"] == 8
    assert data["totals"]["left_out_tokens"] == 88


def test_weights_and_tools_are_heeded_or_said(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(text: str, weight: int) -> dict[str, object]:
        return {"role": "assistant", "content": text, "weight": weight}

    asked = {"role": "user", "content": "Hm?"}
    file = tmp_path / "rows.jsonl"
    rows = [
        {"messages": [asked, answer("Ja", 1), asked, answer("Ne", 0), asked, answer("Jo", 1)]},
        {"messages": [asked, answer("Ja", 1), asked, answer("Ne", 0)]},
        {"messages": [asked, answer("Ja", 0)]},
        {"messages": [asked, answer("Ja", 1)], "tools": [{"type": "function"}]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, data = _xray(capsys, file, base, "--rows", "4")
    assert (code, data["refusal"]) == (1, "The trainer would stop: it refuses 1 of 4 rows.")
    trained = [
        "".join(token["text"] for token in row["tokens"] if token["state"] == "trained")
        for row in data["rows"]
    ]
    assert trained == ["Ja<|end|>Jo<|end|>", "Ja<|end|>", "", ""]
    first, second, third, fourth = data["rows"]
    assert first["remarks"] == ["By their weights 2 of its 3 answers are trained."]
    assert (
        second["remarks"][-1] == "What follows its last trained answer is left off: nothing learns from it."
    )
    assert third["reason"].startswith("Its weights, or its template, leave no answer to train")
    assert fourth["reason"] == "The chat template refuses it: it leaves out the definitions of tools."
    assert (third["is_refused"], fourth["is_refused"], fourth["line"]) == (False, True, 4)


def test_a_file_that_trains_nothing_is_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, data = _xray(capsys, _file(tmp_path, ("What?", "x" * 80), ("What?", "")), base)
    assert (code, data["valid"], data["refusal"]) == (1, False, "No row trains anything.")
    assert [row["is_refused"] for row in data["rows"]] == [False, False]


def test_without_colours_brackets_show_what_is_trained(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, ("[red]Hm\x1b[2J", "Ja."))
    assert run(["datasets", "xray", str(file), "--tokenizer", str(base)]) == 0
    shown = capsys.readouterr().out
    assert "<|user|>[red]Hm [2J<|end|><|assistant|>[[Ja.<|end|>]]" in shown
    assert "\x1b" not in shown
    assert "Can be trained" in shown


def test_what_cannot_be_read_ends_with_2(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, ("Hm?", "Ja."))
    assert _xray(capsys, tmp_path / "none.jsonl", base)[0] == 2
    assert _xray(capsys, file, tmp_path)[0] == 2
    (base / "tokenizer.json").write_text("{}")
    code, data = _xray(capsys, file, base)
    assert (code, data["error"]["code"]) == (2, "tokenizer_unreadable")


def test_a_base_model_without_a_template_is_told(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (base / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    assert run(["datasets", "xray", str(_file(tmp_path, ("Hm?", "Ja."))), "--tokenizer", str(base)]) == 0
    output = capsys.readouterr()
    assert "has no chat template" in output.err
    assert "Assistant:\n   [[Ja.<|end|>]]" in "\n".join(line.rstrip() for line in output.out.splitlines())
