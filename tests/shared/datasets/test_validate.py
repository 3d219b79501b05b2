"""The rules that only pairs of the stack can break; those of rows are tested with the checker."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from shared.datasets.model import Message, Pair, Role
from shared.datasets.overlap import Overlap
from shared.datasets.validate import Validation

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def pair(number: int, *contents: str, **changed: object) -> Pair:
    roles: tuple[Role, ...] = ("user", "assistant")
    contents = contents or (f"What is thing {number}?", f"Thing {number} is a thing.")
    messages = tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))
    values: dict[str, object] = {"token_count": 12, "quality_score": 0.8} | changed
    return Pair(UUID(int=number), NOW, 0, values.pop("messages", messages), **values)


TEN = [pair(number) for number in range(1, 11)]


def validated(pairs: Sequence[Pair], format: str = "openai") -> Validation:
    """In pages of seven."""
    with Overlap() as overlap:
        validation = Validation(format, overlap)
        for begin in range(0, len(pairs), 7):
            validation.add(pairs[begin : begin + 7])
        validation.finish()
    return validation


def rules(pairs: Sequence[Pair], format: str = "openai") -> tuple[list[str], list[str]]:
    found = validated(pairs, format).findings
    errors = [finding.rule for finding in found if finding.is_error]
    return errors, [finding.rule for finding in found if not finding.is_error]


def test_ten_good_pairs_are_valid() -> None:
    result = validated(TEN)
    assert result.is_valid
    assert result.findings == []
    assert (result.stats.row_count, result.stats.question_count) == (10, 10)
    assert (result.stats.mean_tokens, round(result.stats.mean_quality or 0, 4)) == (12, 0.8)


def test_nine_are_too_few_and_left_out_pairs_do_not_count() -> None:
    rejected = pair(10, review_status="rejected")
    invalid = pair(11, is_valid=False)
    result = validated([*TEN[:9], rejected, invalid])
    assert [(finding.rule, finding.is_error) for finding in result.findings] == [("few_rows", True)]
    assert (result.stats.row_count, result.excluded_count) == (9, 2)
    assert rules([]) == (["few_rows"], [])


def test_a_finding_names_the_pair_its_place_and_what_to_do() -> None:
    result = validated([pair(99, is_valid=False), *TEN, pair(77, "What?", "  ")])
    (found,) = result.findings
    assert (found.rule, found.line) == ("empty_message", 12)
    assert result.pair_id(12) == UUID(int=77)
    assert found.hint


def test_too_long_blocks_openai_and_warns_elsewhere() -> None:
    long = [*TEN, pair(11, token_count=4097)]
    assert rules(long) == (["too_long"], [])
    assert rules(long, "alpaca") == ([], ["too_long"])
    assert rules([*TEN, pair(11, token_count=4096)]) == ([], [])
    uncounted = pair(11, "Why?", "because " * 5000, token_count=None)
    assert rules([*TEN, uncounted]) == (["too_long"], [])


def test_what_the_format_of_the_dataset_cannot_hold_blocks() -> None:
    assert rules([*TEN, pair(11, "a", "b", "c")])[0] == ["no_answer"]
    assert rules([*TEN, pair(11, "a", "<|im_end|>")], "chatml") == (["not_held"], [])
    assert rules([*TEN, pair(11, "a", "<|im_end|>")]) == ([], [])
    tools = pair(11, tools=({"type": "function", "function": {"name": "find"}},))
    assert rules([*TEN, tools], "alpaca") == (["not_held"], [])


def test_preferences_and_labels_have_formats_of_their_own() -> None:
    preferences = [pair(20, kind="preference", rejected="Worse."), pair(21, kind="kto", is_desirable=False)]
    assert rules([*TEN, *preferences], "alpaca") == ([], [])
    same = pair(22, kind="preference", rejected="Thing 22 is a thing.")
    result = validated([*TEN, same])
    assert [finding.rule for finding in result.findings] == ["same_ends"]
    assert result.kinds == {"sft": 10, "preference": 1}


def test_repeated_and_contradicting_pairs_warn() -> None:
    same = pair(11, "What is thing 1?", "Thing 1 is a thing.")
    other = pair(12, "What is thing 1?", "Something else.")
    assert rules([*TEN, same, other]) == ([], ["duplicate_row", "duplicate_question"])


def test_what_one_part_gives_away_of_another_warns() -> None:
    words = "The north gate of the old harbour opens at seven in the morning and closes at nine at night"
    split = [
        *TEN,
        pair(11, "When?", words, split="train"),
        pair(12, "When?", words, split="validation"),
        pair(13, "When?", f"{words} on Sundays", split="test"),
        pair(14, "Who keeps the gate?", "Falk."),
    ]
    found = [finding for finding in validated(split).findings if finding.rule == "split_overlap"]
    assert [finding.line for finding in found] == [12, 13, 13]
    assert found[0].message == "As one of validation it says what pair 11 of train says."
    assert "nearly (similarity 0.9" in found[1].message
    assert "split_overlap" not in validated([*TEN, TEN[0]]).counts  # not split


def test_system_prompts_that_differ_warn_once() -> None:
    messages = (Message("system", "Be kind."), Message("user", "Q?"), Message("assistant", "A."))
    result = validated([*TEN, pair(11, messages=messages)])
    (found,) = result.findings
    assert found.rule == "mixed_system_prompts"
    assert "2 different system prompts; 10 pairs have the commonest one, none." in found.message


def test_low_scores_warn() -> None:
    low = pair(11, quality_score=0.1, grounding_score=0.2)
    assert rules([*TEN, low]) == ([], ["low_quality", "low_grounding"])


def test_all_findings_are_counted_and_twenty_listed() -> None:
    result = validated([pair(number, f"Q{number}?", "") for number in range(50)])
    assert len([finding for finding in result.findings if finding.rule == "empty_message"]) == 20
    assert result.counts == {"empty_message": 50, "few_rows": 1}
