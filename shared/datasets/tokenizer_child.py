"""The process that reads a base model's files and runs its template: `python -m`, this module, a directory.

Whoever wrote those files can stop or fill up this process and no other. A JSON line in for each row, one out;
the first line out describes the tokenizer. An answer {"error": ...} is meant for people.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from shared.datasets.chat_template import compile_template
from shared.datasets.loss_mask import PLAIN_TEMPLATE, Masker
from shared.datasets.template_rows import TemplateFails
from shared.datasets.training_rows import Conversation, Messages, Tools

MAX_FILE_BYTES = 200 * 2**20
MAX_RENDERED_CHARS = 20_000_000
MEMORY_BYTES = 2 * 2**30
CPU_SECONDS = 60  # for one row; the parent is less patient, but it may have been killed
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Unreadable(Exception):
    """A sentence about a file that cannot be used."""


class Base:
    """A tokenizer with its template, as the trainer would load them."""

    def __init__(self, directory: Path) -> None:
        from tokenizers import Tokenizer

        config = _json_file(directory / "tokenizer_config.json")
        try:
            self.tokenizer = Tokenizer.from_str(_text_file(directory / "tokenizer.json"))
        except Exception as error:  # the library raises no class of its own
            raise Unreadable(f"tokenizer.json is no tokenizer: {error}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = bool(config.get("split_special_tokens", False))
        named = _special_tokens(directory, config)
        self._add_missing(config, named)
        self.eos_token = named.get("eos_token")
        if "pad_token" not in named and self.eos_token is not None:
            named["pad_token"] = self.eos_token
        templates = _templates(directory, config)
        self.has_own_template = bool(templates)
        self._render = compile_template(templates.get("default", PLAIN_TEMPLATE), named)
        with_tools = templates.get("tool_use")
        self._render_tools = compile_template(with_tools, named) if with_tools else self._render
        self.directory = directory
        self.eos_id = None if self.eos_token is None else self.tokenizer.token_to_id(self.eos_token)
        self.stop_ids = self._stop_ids()
        self._masker = Masker(self._ids, self.stop_ids, self.eos_id)

    def facts(self) -> dict[str, Any]:
        """What the parent must know once."""
        added = self.tokenizer.get_added_tokens_decoder()
        model = self._model()
        context = model.get("max_position_embeddings", model.get("n_positions"))
        return {
            "eos_id": self.eos_id,
            "eos_token": self.eos_token,
            "stop_ids": sorted(self.stop_ids),
            "special_ids": [number for number, token in added.items() if token.special],
            "context_length_tokens": _positive(context),
            "has_own_template": self.has_own_template,
        }

    def row(self, given: Conversation, *, in_full: bool) -> dict[str, Any]:
        """How the row is masked; in full with its tokens, its text, and where in it each token stands."""
        row = self._masker.answers(given)
        answer = {
            "token_count": len(row.ids),
            "spans": row.spans,
            "is_shifted": row.is_shifted,
            "is_closed": row.is_closed,
            "has_words": row.has_words(self.stop_ids),
        }
        if not in_full:
            return answer
        text = self._text(row.messages, given.tools, False)
        return {**answer, "ids": row.ids, "text": text, "offsets": self._encoded(text).offsets}

    def _ids(self, messages: Messages, tools: Tools, add_generation_prompt: bool) -> list[int]:
        try:
            ids: list[int] = self._encoded(self._text(messages, tools, add_generation_prompt)).ids
        except MemoryError:
            raise
        except Exception as error:  # a template may raise anything
            raise TemplateFails(_sentence(error)) from error
        return ids

    def _text(self, messages: Messages, tools: Tools, add_generation_prompt: bool) -> str:
        render = self._render_tools if tools else self._render
        return render(messages, tools, add_generation_prompt)

    def _model(self) -> dict[str, Any]:
        model = _json_file(self.directory / "config.json")
        text = model.get("text_config")  # of a model that sees pictures too
        return text if isinstance(text, dict) else model

    def _stop_ids(self) -> frozenset[int]:
        generation_file = self.directory / "generation_config.json"
        source = _json_file(generation_file) if generation_file.is_file() else self._model()
        stops = source.get("eos_token_id")
        known = [*(stops if isinstance(stops, list) else [stops]), self.eos_id]
        return frozenset(one for one in known if type(one) is int)

    def _encoded(self, text: str) -> Any:
        if len(text) > MAX_RENDERED_CHARS:
            raise ValueError(f"it renders to {len(text):,} characters")
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _add_missing(self, config: dict[str, Any], named: dict[str, str]) -> None:
        """Tokens that only the configuration knows, in the order in which transformers adds them."""
        from tokenizers import AddedToken

        known = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
        for _, token in listed:
            if token["content"] not in known:
                self.tokenizer.add_tokens([AddedToken(**{"special": False, **token})])
                known.add(token["content"])
        extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
        others = extra.values() if isinstance(extra, dict) else extra
        for content in [*named.values(), *map(_content, others)]:
            if content is not None and content not in known:
                self.tokenizer.add_special_tokens([AddedToken(content, special=True)])
                known.add(content)


def _special_tokens(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    given = dict(config)
    if "added_tokens_decoder" not in config:  # as files were before 2023
        given |= _json_file(directory / "special_tokens_map.json")
    named = {name: _content(given.get(name)) for name in _NAMED}
    return {name: content for name, content in named.items() if content is not None}


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _templates(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    """Chat templates by name; none when the base model has none. Files of their own come first.

    `tool_use` is for rows with tools, where it is there; `default` is for all others.
    """
    own, others = directory / "chat_template.jinja", directory / "additional_chat_templates"
    named: Any = {file.stem: _text_file(file) for file in others.glob("*.jinja")}
    if own.is_file():
        named["default"] = _text_file(own)
    named = named or config.get("chat_template")
    if isinstance(named, list):
        named = {one["name"]: one["template"] for one in named}
    if isinstance(named, str):
        named = {"default": named}
    templates = {name: text for name, text in (named or {}).items() if isinstance(text, str) and text}
    if templates and "default" not in templates:
        raise Unreadable(f"There is no default chat template among {sorted(templates)}.")
    return templates


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _text_file(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path.name} is not UTF-8.") from error


def _json_file(path: Path) -> dict[str, Any]:
    """Empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text_file(path))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise Unreadable(f"{path.name} holds no object.")
    return content


def _sentence(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__)[:500]


def main() -> None:
    """Answers until its input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # writes no file
    try:
        base = Base(Path(sys.argv[1]))
        _answer(base.facts())
    except Exception as error:  # the files may hold anything
        _answer({"error": _sentence(error)})
        return
    for line in sys.stdin:
        _allow_cpu_time()
        request = json.loads(line)
        try:
            given = Conversation(request["messages"], request["tools"])
            _answer(base.row(given, in_full=request["in_full"]))
        except MemoryError:
            _answer({"error": "it renders to more than fits in memory"})
        except Exception as error:  # a template may raise anything
            _answer({"error": _sentence(error)})


def _allow_cpu_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS, hard))


def _answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
