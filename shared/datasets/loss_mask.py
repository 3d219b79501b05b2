"""Which tokens of a row are learned. The trainer and the X-ray both ask here, so they cannot differ."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from shared.training.files import MAX_LENGTH_TOKENS

IGNORED = -100  # a label that no loss counts

# For base models that were never taught to converse. Tokens of their own would need new embeddings.
# A line break before the words, not a space: tokenizers join a space to the word behind it.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() + ':\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class MaskedRow:
    """A row as it is trained: `ids[start:]` are learned, what is before them is only read."""

    ids: list[int]
    start: int
    is_shifted: bool  # the template renders the prompt differently when the answer follows
    is_closed: bool  # the template ends the answer; else the end-of-text token was put behind it

    @property
    def labels(self) -> list[int]:
        """As long as `ids`: the token where it is learned, IGNORED elsewhere."""
        return [IGNORED] * self.start + self.ids[self.start :]

    def has_words(self, stop_ids: Set[int]) -> bool:
        """Whether more is learned than where to stop."""
        return any(token not in stop_ids for token in self.ids[self.start :])


def mask(prompt: list[int], whole: list[int], stop_ids: Set[int], eos_id: int | None) -> MaskedRow:
    """Only the last answer is learned: what `whole` has and `prompt` has not.

    prompt: the row without its last answer, rendered to where the model would begin to speak; whole: all
    of it. A row ends with the last token of `stop_ids` after the answer, so that the model learns to stop.
    """
    common = _common_length(prompt, whole)
    start = max(common, 1)  # nothing stands before the first token that could foretell it
    answer = whole[start:]
    last = max((index for index, token in enumerate(answer) if token in stop_ids), default=None)
    # Templates add a line break after the end of a turn, or no end at all.
    if last is not None:
        answer = answer[: last + 1]
    elif eos_id is not None:
        answer = [*answer, eos_id]
    return MaskedRow(
        whole[:start] + answer, start, is_shifted=common < len(prompt), is_closed=last is not None
    )


def limit_tokens(wanted: int | None, context_length_tokens: int | None) -> int:
    """The longest row that is trained. None: the user names no limit, the base model names none."""
    limit = wanted or MAX_LENGTH_TOKENS
    return min(limit, context_length_tokens or limit)


def _common_length(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
