"""Messages as the files of the world write them: OpenAI's role and content, ShareGPT's from and value."""

from __future__ import annotations

import re
from typing import Any

import orjson

from shared.datasets.model import Message, Role


class NotRead(Exception):
    """The row says something that cannot be taken over without changing it: rule, message and hint."""

    def __init__(self, rule: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.hint = hint


_ROLES: dict[str, Role] = {
    **{name: "system" for name in ("system", "developer")},
    **{name: "user" for name in ("user", "human")},
    **{name: "assistant" for name in ("assistant", "gpt", "chatgpt", "bot", "model")},
    **{name: "tool" for name in ("tool", "observation")},
}
_PLAIN_KEYS = {"role", "content"}
_MESSAGE_KEYS = {"role", "from", "content", "value", "tool_calls", "tool_call_id", "name", "weight"}
# What begins a turn in Anthropic's text completions, where prompts end with the assistant's, still empty.
_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_ANTHROPIC_MARK = re.compile(f"({_HUMAN}|{_ASSISTANT})")
_CHATML_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n?", re.DOTALL)


def messages_of(value: object, column: str) -> tuple[Message, ...]:
    """The messages of a list, in either spelling. Raises NotRead."""
    if not isinstance(value, list):
        hint = 'Write [{"role": "user", "content": "..."}, ...].'
        raise NotRead("not_a_list", f"{column} is {kind_of(value)}, not a list of messages.", hint)
    if not value:
        raise NotRead("no_messages", f"{column} is empty.", "Take the row out.")
    return tuple(
        _plain_message(item) or message_of(item, f"{column}[{place}]") for place, item in enumerate(value)
    )


def _plain_message(item: object) -> Message | None:
    """The message of role and content alone, which nearly all are; None for all else."""
    if not isinstance(item, dict) or item.keys() != _PLAIN_KEYS:
        return None
    said, content = item["role"], item["content"]
    if not isinstance(said, str) or not isinstance(content, str) or said not in _ROLES:
        return None
    return Message(_ROLES[said], content)


def message_of(item: object, where: str) -> Message:
    """One message; `where` names it in what is raised, which is NotRead."""
    if not isinstance(item, dict):
        hint = 'Write {"role": "user", "content": "..."}.'
        raise NotRead("not_a_message", f"{where} is {kind_of(item)}, not an object.", hint)
    if unknown := {key for key in item.keys() - _MESSAGE_KEYS if item[key] is not None}:
        hint = "Messages have role and content, or from and value. Rename it or take it out."
        raise NotRead("unknown_message_key", f"{where} has the key {min(unknown)!r}.", hint)
    if ("role" in item and "from" in item) or ("content" in item and "value" in item):
        hint = "Keep role and content, or from and value."
        raise NotRead("two_spellings", f"{where} is written in two ways at once.", hint)
    said = item.get("from", item.get("role"))
    if said == "function_call":
        return _function_call(item, where)
    role = _role(said, where)
    calls = _tool_calls(item.get("tool_calls"), where)
    return Message(
        role,
        _content(item, where, may_lack=bool(calls)),
        calls,
        text_or_none(item.get("tool_call_id"), f"{where}.tool_call_id"),
        text_or_none(item.get("name"), f"{where}.name"),
        _weight(item.get("weight"), where),
    )


def chatml_turns(text: str) -> tuple[Message, ...]:
    """The turns of a text that is made of nothing else. Raises NotRead."""
    turns, end = [], 0
    for match in _CHATML_TURN.finditer(text):
        if match.start() != end or "<|im_start|>" in match.group(2):
            break
        turns.append(Message(_role(match.group(1), "text"), match.group(2)))
        end = match.end()
    if end != len(text):
        hint = "Every turn is <|im_start|>role, a newline, its text and <|im_end|>."
        raise NotRead("chatml_syntax", f"From character {end + 1} the text is no ChatML turn.", hint)
    return tuple(turns)


def is_anthropic_prompt(value: object) -> bool:
    """Whether this is text with turns in it that asks for the assistant's next one."""
    return isinstance(value, str) and _HUMAN in value and value.endswith(_ASSISTANT)


def anthropic_turns(prompt: str, completion: str) -> tuple[Message, ...]:
    """The turns of such a prompt and the answer to it; text before the first is the system message.

    One blank after a mark belongs to the mark. Raises NotRead.
    """
    if _ANTHROPIC_MARK.search(completion):
        hint = "A completion is one answer; put earlier turns into the prompt."
        raise NotRead("anthropic_syntax", "completion has the mark of another turn in it.", hint)
    system, *turns = _ANTHROPIC_MARK.split(prompt)
    messages = [Message("system", system)] if system else []
    for mark, said in zip(turns[::2], [*turns[1:-1:2], completion], strict=True):
        messages.append(Message("user" if mark == _HUMAN else "assistant", said.removeprefix(" ")))
    return tuple(messages)


def says_turns(text: str) -> bool:
    """Whether a text is the JSON of a message or of a list of some.

    In a table it is then read as these, so no other text may be written where messages may stand too.
    """
    if text[:1] not in ("[", "{"):
        return False
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(
        isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in turns
    )


def text_of(value: object, column: str) -> str:
    """The value, which has to be text. Raises NotRead."""
    if not isinstance(value, str):
        raise NotRead("not_text", f"{column} is {kind_of(value)}, not text.", "Write it in quotation marks.")
    return value


def text_or_none(value: object, column: str) -> str | None:
    return None if value is None else text_of(value, column)


def tools_of(value: object) -> tuple[dict[str, Any], ...]:
    """Definitions of tools: a list, or the JSON text of one as ShareGPT has it. Raises NotRead."""
    if isinstance(value, str) and value.strip():
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise NotRead("tools_not_json", "tools is text, but not JSON.", "Write a list.") from None
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise NotRead("tools_not_a_list", "tools is not a list of objects.", "Write a list of definitions.")
    return tuple(value)


def kind_of(value: object) -> str:
    """What JSON calls it, with its article."""
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _role(said: object, where: str) -> Role:
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        shown = repr(said)[:40] if said is not None else "missing"
        hint = "Roles are system, user, assistant and tool; in ShareGPT system, human, gpt and observation."
        raise NotRead("unknown_role", f"The role of {where} is {shown}.", hint)
    return role


def _content(item: dict[str, Any], where: str, *, may_lack: bool) -> str:
    value = item.get("value", item.get("content"))
    if value is None and may_lack:
        return ""
    if isinstance(value, list):
        hint = "Join the parts into one text. Pictures and sound cannot be trained on here."
        raise NotRead("content_parts", f"The content of {where} is a list of parts.", hint)
    if value is None:
        raise NotRead("content_missing", f"{where} has no content.", "Write the text of the turn.")
    return text_of(value, f"The content of {where}")


def _tool_calls(value: object, where: str) -> tuple[dict[str, Any], ...]:
    """A list, or the JSON text of one as tables have it."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise NotRead(
                "tool_calls", f"tool_calls of {where} is text, but not JSON.", "Write a list."
            ) from None
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise NotRead("tool_calls", f"tool_calls of {where} is not a list of objects.", "Write a list.")
    return tuple(value)


def _weight(value: object, where: str) -> int | None:
    if value is None or (value in (0, 1) and type(value) is int):
        return None if value is None else int(str(value))
    raise NotRead("weight", f"The weight of {where} is neither 0 nor 1.", "Write 0, 1 or nothing.")


def _function_call(item: dict[str, Any], where: str) -> Message:
    try:
        call = orjson.loads(text_of(item.get("value"), where))
        name, arguments = call["name"], call["arguments"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        hint = 'Write {"name": "...", "arguments": {...}} as text.'
        raise NotRead("function_call", f"{where} is no call of a function.", hint) from None
    written = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return Message("assistant", "", ({"type": "function", "function": {"name": name, "arguments": written}},))
