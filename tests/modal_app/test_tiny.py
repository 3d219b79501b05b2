"""The offline base: the same bytes wherever and however often it is built."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from pathlib import Path

from tokenizers import Tokenizer

from modal_app.tiny import recipe_hash, tiny_base
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.training_rows import Conversation
from shared.training.tiny.tokenizer import tiny_tokenizer

_ENGLISH = """The committee met again on Thursday to discuss the honey tasting in the orchard. Volunteers
who want to help at the stall should bring gloves and a hat, and report to Mrs Okafor by half past eight. The
winning jar of last year came from the trees behind the chapel, and its keeper thanks the bees."""
_OTHERS = "Größe: 3 µm — 日本語, emoji 🐝, ελληνικά, \ttabs\n\nand  spaces"


def _build(libraries: ForkServerContext, *homes: Path) -> None:
    builders = [libraries.Process(target=tiny_base, args=(home,)) for home in homes]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(30)
        assert builder.exitcode == 0
        builder.close()


def _files(base: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in base.iterdir()}


def test_every_build_gives_the_same_bytes(libraries: ForkServerContext, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    _build(libraries, one, two, two, two)  # three builders race for one place
    first, second = tiny_base(one), tiny_base(two)
    assert first.name == recipe_hash()[:16]
    assert _files(first) == _files(second)
    assert "model.safetensors" in _files(first)
    assert [path.name for path in second.parent.iterdir()] == [second.name]


def test_its_tokenizer_reads_anything(libraries: ForkServerContext, tmp_path: Path) -> None:
    _build(libraries, tmp_path)
    tokenizer = Tokenizer.from_file(str(tiny_base(tmp_path) / "tokenizer.json"))
    assert len(_ENGLISH) / len(tokenizer.encode(_ENGLISH).ids) >= 2.5
    for text in (_ENGLISH, _OTHERS):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_tokenizer_alone_is_that_of_the_base(libraries: ForkServerContext, tmp_path: Path) -> None:
    _build(libraries, tmp_path)
    talk = [{"role": "user", "content": _OTHERS}, {"role": "assistant", "content": _ENGLISH}]
    with BaseTokenizer(tiny_base(tmp_path)) as base, BaseTokenizer(tiny_tokenizer(tmp_path)) as alone:
        assert base.row(Conversation(talk)) == alone.row(Conversation(talk))
        facts = (
            "eos_id",
            "eos_token",
            "stop_ids",
            "special_ids",
            "context_length_tokens",
            "has_own_template",
        )
        assert [getattr(base, name) for name in facts] == [getattr(alone, name) for name in facts]
