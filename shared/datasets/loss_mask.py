"""Which tokens of a row are learned. The trainer and the X-ray both ask here, so they cannot differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from shared.datasets.template_rows import Encode, TemplateFails, for_template, other_content
from shared.datasets.training_rows import Conversation, Messages
from shared.training.files import MAX_LENGTH_TOKENS

IGNORED = -100  # a label that no loss counts
Span = tuple[int, int]  # the first token, and the one behind the last
_Encode = Callable[[Messages, bool], list[int]]  # with the tools of a row

# For base models that were never taught to converse. Tokens of their own would need new embeddings.
# A line break before the words, not a space: tokenizers join a space to the word behind it.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() + ':\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class MaskedRow:
    """A row as it is trained: the tokens of `spans` are learned, the others only read."""

    ids: list[int]
    spans: list[Span]  # in order, none empty; empty list: nothing is learned
    messages: Messages  # as the template was given them
    is_shifted: bool  # the template renders the prompt differently when the answer follows
    is_closed: bool  # the template ends the last answer; else the end-of-text token was put behind it

    @property
    def start(self) -> int:
        """The first token that is learned; behind the last one when none is."""
        return self.spans[0][0] if self.spans else len(self.ids)

    @property
    def labels(self) -> list[int]:
        """As long as `ids`: the token where it is learned, IGNORED elsewhere."""
        return labels_of(self.ids, self.spans)

    def has_words(self, stop_ids: Set[int]) -> bool:
        """Whether more is learned than where to stop."""
        return any(token not in stop_ids for begin, end in self.spans for token in self.ids[begin:end])


def labels_of(ids: list[int], spans: Sequence[Span]) -> list[int]:
    """The token where it is learned, IGNORED elsewhere."""
    labels = [IGNORED] * len(ids)
    for begin, end in spans:
        labels[begin:end] = ids[begin:end]
    return labels


def learned_answers(messages: Messages) -> list[int]:
    """The places of the messages that supervised training learns: the answers but those of weight 0.

    As OpenAI reads a row (its guide to fine-tuning, "multi-turn chat examples", 2026-11-30). An answer with
    nothing before it answers nothing, and is not learned.
    """
    answers = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    return [place for place in answers if place > 0 and messages[place].get("weight") != 0]


def is_weighed(messages: Messages) -> bool:
    """Whether an answer has a weight. That of another message means nothing."""
    return any(one.get("role") == "assistant" and one.get("weight") is not None for one in messages)


@dataclass(frozen=True)
class Masker:
    """Masks rows with the tokens and the chat template of a base model."""

    encode: Encode
    stop_ids: Set[int]  # each ends an answer
    eos_id: int | None  # put behind an answer that the template does not end; None: nothing is

    def answers(self, row: Conversation) -> MaskedRow:
        """The row of supervised training. Raises TemplateFails.

        What follows the last answer that is learned is left off: nothing would learn from it. Where the
        template does not let the answers be told apart, the last one is learned alone, unless a weight asks
        for more.
        """
        messages, learned = for_template(row, self.encode), learned_answers(row.messages)
        encode = self._with_tools(row)
        if not learned:
            return MaskedRow(encode(messages, False), [], messages, is_shifted=False, is_closed=True)
        messages = messages[: learned[-1] + 1]
        masked = self._last_answer(messages, encode)
        if not any(one.get("role") == "assistant" for one in messages[:-1]):
            return masked
        try:
            return replace(masked, spans=self._spans(messages, learned, masked, encode))
        except TemplateFails:
            if is_weighed(row.messages):
                raise
            return masked

    def last_answer(self, row: Conversation) -> MaskedRow:
        """The row with its last answer learned, whatever the weights say: one end of a comparison.

        Raises TemplateFails.
        """
        return self._last_answer(for_template(row, self.encode), self._with_tools(row))

    def _with_tools(self, row: Conversation) -> _Encode:
        return lambda messages, speaks: self.encode(messages, row.tools, speaks)

    def _last_answer(self, messages: Messages, encode: _Encode) -> MaskedRow:
        """What all messages have and the row to where the model would begin to speak has not.

        It ends with the last token of `stop_ids` after the answer, so that the model learns to stop.
        """
        prompt, whole = encode(messages[:-1], True), encode(messages, False)
        common = _common_length(prompt, whole)
        start = max(common, 1)  # nothing stands before the first token that could foretell it
        answer = whole[start:]
        last = self._last_stop(answer)
        # Templates add a line break after the end of a turn, or no end at all.
        if last is not None:
            answer = answer[: last + 1]
        elif self.eos_id is not None:
            answer = [*answer, self.eos_id]
        ids = whole[:start] + answer
        spans = [(start, len(ids))] if start < len(ids) else []
        is_shifted = common < len(prompt)
        return MaskedRow(ids, spans, messages, is_shifted, is_closed=last is not None)

    def _spans(
        self, messages: Messages, learned: Sequence[int], row: MaskedRow, encode: _Encode
    ) -> list[Span]:
        """Where in the row the learned answers stand; the last of them ends it."""
        *earlier, last = learned
        if row.is_shifted:
            _begin(messages, last, row.ids, encode)  # or tokens of others would be learned with it
        return [self._span(messages, place, row, encode) for place in earlier] + row.spans

    def _span(self, messages: Messages, place: int, row: MaskedRow, encode: _Encode) -> Span:
        """Where in the row an answer stands that others follow.

        row: with its last answer learned. This one ends with the last token of `stop_ids` before the next
        message says something. A template may end it with another token (gpt-oss): that one is not learned.
        """
        begin = _begin(messages, place, row.ids, encode)
        changed = list(messages)
        changed[place + 1] = other_content(messages[place + 1])
        until = _common_length(encode(changed, False), row.ids)
        last = self._last_stop(row.ids[begin:until])
        if last is not None and until <= row.start:  # else the template shows nothing of the next message
            return begin, begin + last + 1
        end = _common_length(encode(messages[: place + 1], False), row.ids)
        if end <= begin:
            raise TemplateFails(f"it does not tell where message {place + 1} ends, so it cannot be weighed")
        return begin, end

    def _last_stop(self, ids: list[int]) -> int | None:
        return max((index for index, token in enumerate(ids) if token in self.stop_ids), default=None)


def _begin(messages: Messages, place: int, whole: list[int], encode: _Encode) -> int:
    """The first token of the answer at this place.

    How its turn begins may differ from where the model begins to speak: templates have the last answer
    thought about, and no other. Raises TemplateFails when the template renders what stands before it anew,
    beyond the last token, which may reach into the answer.
    """
    spoken = encode(messages[:place], True)
    common = _common_length(spoken, whole)
    is_shifted = common < len(spoken)
    if is_shifted and common + 1 < _common_length(encode(messages[:place], False), spoken):
        raise TemplateFails(f"it renders all before message {place + 1} anew, so weights cannot be heeded")
    return max(common, 1)


def limit_tokens(wanted: int | None, context_length_tokens: int | None) -> int:
    """The longest row that is trained. None: the user names no limit, the base model names none."""
    limit = wanted or MAX_LENGTH_TOKENS
    return min(limit, context_length_tokens or limit)


def _common_length(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
