"""Chat templates of base models, run as transformers runs them, though anybody may have written them.

The sandbox keeps a template away from Python. It does not keep it from running for ever or from filling the
memory: that is what the child process of `tokenizer_child` is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_TEMPLATE_CHARS = 1_000_000
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names that one field goes by

# Messages, tools, and whether the model speaks next.
Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], bool], str]


def compile_template(source: str, special_tokens: Mapping[str, str]) -> Render:
    """A function from messages with their tools, and whether the model speaks next, to text.

    special_tokens: what the template reads as `eos_token` and so on. Raises TemplateError when the source
    is no template; the function raises it when the template refuses the messages.
    """
    if len(source) > MAX_TEMPLATE_CHARS:
        raise TemplateError(
            f"The chat template has {len(source):,} characters; {MAX_TEMPLATE_CHARS:,} are read."
        )
    template = _environment().from_string(source)

    def render(
        messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], add_generation_prompt: bool
    ) -> str:
        return template.render(
            messages=[_message(message) for message in messages],
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )

    return render


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers 5.23 hands it over: without empty fields, the reasoning under each of its names."""
    given = {name: value for name, value in message.items() if value is not None}
    reasoning = next((given[name] for name in _REASONING if name in given), None)
    return given if reasoning is None else {"thinking": reasoning, **given, "reasoning_content": reasoning}


class _Generation(Extension):
    """`{% generation %}` marks answers for trainers that ask; here its content is only printed."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a plain set

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_printed"), [], [], body).set_lineno(line)

    @staticmethod
    def _printed(caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(Namespace):
    """Holds no name that begins with an underscore, so nothing of Python's own is reached through it."""

    def __init__(*arguments: Any, **named: Any) -> None:
        self, *rest = arguments  # so that a field may be called self
        fields = dict(*rest, **named)
        for name in fields:
            _check_name(name)
        Namespace.__init__(self, fields)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"A namespace of a chat template cannot hold {name!r}.")


class _Dict:
    """`dict(...)` without the class behind it."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=_now, dict=_Dict(), namespace=_Namespace)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - templates print the day where they run
