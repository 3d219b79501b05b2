from datetime import UTC, datetime
from uuid import UUID

from shared.datasets.model import Message, Pair, Role
from shared.datasets.validate import validate

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def pair(number: int, *contents: str, **changed: object) -> Pair:
    roles: tuple[Role, ...] = ("user", "assistant")
    contents = contents or (f"What is thing {number}?", f"Thing {number} is a thing.")
    messages = tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))
    values: dict[str, object] = {"token_count": 12, "quality_score": 0.8} | changed
    return Pair(UUID(int=number), NOW, 0, values.pop("messages", messages), **values)


TEN = [pair(number) for number in range(1, 11)]


def rules(pairs: list[Pair], format: str = "openai") -> tuple[list[str], list[str]]:
    result = validate(pairs, format)
    return [finding.rule for finding in result.errors], [finding.rule for finding in result.warnings]


def test_ten_good_pairs_are_valid() -> None:
    result = validate(TEN, "openai")
    assert result.is_valid
    assert result.findings == []
    assert (result.stats.total_pairs, result.stats.unique_questions) == (10, 10)
    assert (result.stats.avg_tokens_per_pair, result.stats.avg_quality_score) == (12, 0.8)


def test_nine_are_too_few_and_left_out_pairs_do_not_count() -> None:
    rejected = pair(10, review_status="rejected")
    invalid = pair(11, is_valid=False)
    result = validate([*TEN[:9], rejected, invalid], "openai")
    assert [finding.rule for finding in result.errors] == ["too_few_pairs"]
    assert (result.stats.total_pairs, result.stats.excluded_pairs) == (9, 2)


def test_no_pairs_at_all() -> None:
    result = validate([], "chatml")
    assert [finding.rule for finding in result.errors] == ["too_few_pairs"]
    assert result.stats.avg_tokens_per_pair == 0


def test_a_finding_names_the_pair_its_place_and_what_to_do() -> None:
    (found,) = validate([*TEN, pair(77, "What?", "  ")], "openai").errors
    assert (found.rule, found.pair_id, found.ordinal) == ("empty_message", UUID(int=77), 11)
    assert found.message.startswith("Pair 11:")
    assert found.hint


def test_too_long_blocks_openai_and_warns_elsewhere() -> None:
    long = [*TEN, pair(11, token_count=4097)]
    assert rules(long) == (["too_long"], [])
    assert rules(long, "alpaca") == ([], ["too_long"])
    assert rules([*TEN, pair(11, token_count=4096)]) == ([], [])
    uncounted = pair(11, "Why?", "because " * 5000, token_count=None)
    assert rules([*TEN, uncounted]) == (["too_long"], [])


def test_turns_and_markers() -> None:
    assert rules([*TEN, pair(11, "a", "b", "c")]) == (["turn_order"], [])
    assert rules([*TEN, pair(11, "a", "<|im_end|>")], "chatml") == (["turn_marker"], [])
    assert rules([*TEN, pair(11, "a", "<|im_end|>")]) == ([], [])


def test_repeated_and_contradicting_pairs_warn() -> None:
    same = pair(11, "what is  THING 1?", "thing 1 is a thing.")
    other = pair(12, "What is thing 1?", "Something else.")
    assert rules([*TEN, same, other]) == ([], ["duplicate_pair", "duplicate_question"])


def test_system_prompts_that_differ_warn_once() -> None:
    messages = (Message("system", "Be kind."), Message("user", "Q?"), Message("assistant", "A."))
    assert rules([*TEN, pair(11, messages=messages)]) == ([], ["mixed_system_prompts"])


def test_low_scores_warn() -> None:
    low = pair(11, quality_score=0.1, grounding_score=0.2)
    assert rules([*TEN, low]) == ([], ["low_quality", "low_grounding"])


def test_all_findings_are_counted_and_twenty_listed() -> None:
    result = validate([pair(number, f"Q{number}?", "") for number in range(50)], "openai")
    assert len(result.errors) == 20
    assert result.counts == {"empty_message": 50}
