"""The rules over examples: of one row, of all together, and what is counted."""

from __future__ import annotations

import pytest

from shared.datasets.checker import Checker
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.model import Message

LONG = "The gate of the lower garden is opened at seven in the morning and closed when the light goes. "
KEY = "sk-proj-" + "a1B2" * 8
IBAN, CARD = "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111"
CALL = ({"type": "function", "function": {"name": "f", "arguments": "{}"}},)


def chat(asked: str, answer: str = "At seven.", line: int = 1) -> Example:
    return Example((Message("user", asked), Message("assistant", answer)), line=line)


def checker(**options: object) -> Checker:
    return Checker(**{"format": "sharegpt", **options})


def rules(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.severity) for finding in found]


@pytest.mark.parametrize(
    ("turns", "rule"),
    [
        ([("user", " \n"), ("assistant", "A.")], "empty_message"),
        ([("user", "Q?")], "no_answer"),
        ([("assistant", "A.")], "turn_order"),
        ([("user", "Q?"), ("user", "Q?"), ("assistant", "A.")], "turn_order"),
        ([("user", "Q?"), ("assistant", "A."), ("assistant", "B.")], "turn_order"),
        ([("user", "Q?"), ("system", "S."), ("assistant", "A.")], "system_not_first"),
        ([("tool", "3"), ("assistant", "A.")], "turn_order"),
    ],
)
def test_a_row_out_of_order_is_an_error(turns: list[tuple[str, str]], rule: str) -> None:
    checked = checker()
    assert rules(checked.add(Example(tuple(Message(*turn) for turn in turns)))) == [(rule, "error")]
    assert checked.stats().row_count == 0


def test_calls_of_tools_and_their_results_are_in_order() -> None:
    turns = (Message("user", "Q?"), Message("assistant", "", CALL), Message("tool", "3"))
    assert checker().add(Example((*turns, Message("assistant", "A.")))) == []


@pytest.mark.parametrize("answer", ["-", "N/A", "none.", "...", "<TODO>", "null"])
def test_an_answer_that_says_nothing_is_told(answer: str) -> None:
    assert rules(checker().add(chat("Q?", answer))) == [("near_empty_answer", "warning")]


@pytest.mark.parametrize("answer", ["A", "42", "Yes", "No.", "好", "None of the gates opens."])
def test_a_short_answer_is_an_answer(answer: str) -> None:
    assert checker().add(chat("Q?", answer)) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"Use {KEY} here.", "secret"),
        ("hf_" + "abcDEF123456789012", "secret"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "secret"),
        ("ghp_" + "0123456789abcdefghijABCDEFGHIJ012345", "secret"),
        ("Authorization: Bearer " + "abcdef0123456789xyz", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII", "secret"),
        ("write to jane.doe@firm.co.uk, please", "email_address"),
        ("call +49 (0) 30 901820-11 today", "phone_number"),
        ("call (212) 664-7665", "phone_number"),
        (f"to {IBAN}.", "iban"),
        ("to GB29NWBK60161331926819", "iban"),
        (f"card {CARD}", "card_number"),
        ("card 378282246310005", "card_number"),
    ],
)
def test_keys_and_personal_data_are_told_but_not_shown(text: str, rule: str) -> None:
    found = checker().add(chat(text, LONG))
    assert rules(found) == [(rule, "warning")]
    assert not any(word in found[0].message for word in text.split() if len(word) > 5 and word != "please")


@pytest.mark.parametrize(
    "text",
    [
        "task-oriented-dialogue-systems and sk-learn-like names",
        "sk-is-a-prefix-without-a-number",
        "The bearer of good news is here",
        "you@example.com, root@localhost, @decorator",
        "call 212-555-0142",
        "1.000.000.0000 and 2024-11-29 12:30",
        "DE89 3704 0044 0532 0130 01",
        "4111 1111 1111 1112 and 0000 0000 0000 0000",
        "0.1000000000000000055511151231257827021181583404541015625",
    ],
)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert checker().add(chat(text, LONG)) == []


def test_data_in_a_call_or_a_worse_answer_is_seen_too() -> None:
    call = ({"type": "function", "function": {"name": "f", "arguments": f'{{"key": "{KEY}"}}'}},)
    turns = (Message("user", "Q?"), Message("assistant", "", call), Message("tool", "3"))
    assert rules(checker().add(Example((*turns, Message("assistant", "A."))))) == [("secret", "warning")]
    worse = Example((Message("user", "Q?"), Message("assistant", "A.")), (Message("assistant", CARD),))
    assert rules(checker().add(worse)) == [("card_number", "warning")]


def test_repeated_rows_and_questions() -> None:
    checked = checker(place="pair")
    asked = [("Q?", "A."), ("Q?", "B."), ("R?", "A."), ("Q?", "A."), ("Q?", "A.")]
    for line, (question, answer) in enumerate(asked, start=3):
        checked.add(chat(question, answer, line))
    found = [finding for finding in checked.finish() if finding.rule != "few_rows"]
    assert [(finding.rule, finding.line) for finding in found] == [
        ("duplicate_row", 6), ("duplicate_row", 7), ("duplicate_question", 4),
    ]  # fmt: skip
    assert found[1].message == "The same as pair 3."
    assert checked.stats().question_count == 2


def test_rows_that_differ_in_what_is_not_said_are_not_the_same() -> None:
    plain = (Message("user", "Q?"), Message("assistant", "A."))
    rows = [
        Example(plain, line=1),
        Example(plain, label=True, line=2),
        Example(plain, label=False, line=3),
        Example(plain, (Message("assistant", "B."),), line=4),
        Example(plain, (Message("assistant", "C."),), line=5),
        Example(plain, tools=({"name": "f"},), line=6),
        Example((plain[0], Message("assistant", "A.", weight=0)), line=7),
        Example(plain, metadata={"id": 2}, line=8),  # the same as the first
    ]
    checked = checker()
    for row in rows:
        checked.add(row)
    found = [(finding.rule, finding.line) for finding in checked.finish() if finding.rule != "few_rows"]
    assert found == [("duplicate_row", 8), ("duplicate_question", 7)]


def test_a_row_that_stands_out_by_its_length() -> None:
    checked = checker()
    for line in range(1, 41):
        checked.add(chat(f"Q{line}?", LONG, line), token_count=900 if line == 7 else 20)
    (found,) = [finding for finding in checked.finish() if finding.rule == "length_outlier"]
    assert (found.line, found.message) == (7, "900 tokens, where half of the rows have no more than 20.")


def test_tokens_are_counted_over_the_limit_and_estimated_below() -> None:
    long = chat("Q?", LONG * 400)
    assert rules(checker(format="openai").add(long)) == [("too_long", "error")]
    assert rules(checker().add(long)) == [("too_long", "warning")]
    assert rules(checker().add(long, token_count=4096)) == []
    assert rules(checker().add(long, token_count=4097)) == [("too_long", "warning")]
    checked = checker()
    for tokens in (10, 70, 5000):
        checked.add(chat(f"Q{tokens}?"), token_count=tokens, quality=0.5)
    stats = checked.stats().as_dict()
    assert stats["tokensAreExact"] is True
    assert stats["avgTokensPerPair"] == 1693.33
    assert stats["avgQualityScore"] == 0.5
    assert [bin["rows"] for bin in stats["tokenHistogram"]] == [1, 1, 0, 0, 0, 0, 0, 1, 0]
    checked.add(chat("Q?"))
    assert checked.stats().is_exact is False


def test_languages_are_told_by_their_shares() -> None:
    checked = checker()
    german = "Die Tür ist nicht zu, und der Garten wird mit dem Licht auch für die Gäste geöffnet."
    for line in range(1000):
        checked.add(chat(f"Q{line}?", german if line % 4 == 0 else LONG, line))
    (found,) = [finding for finding in checked.finish() if finding.rule == "language_mix"]
    shares = checked.stats().languages
    assert found.message == f"Answers in several languages: en {shares['en']:.0%}, de {shares['de']:.0%}."
    assert 0.15 < shares["de"] < 0.35  # of a sample of 100


def test_the_file_is_measured_for_openai() -> None:
    for format, expected in (("openai", [("over_100_mb", "error")]), ("dpo", [])):
        checked = checker(format=format)
        assert rules(list(checked.finish(byte_size=101 * 2**20))) == expected


def test_a_row_that_the_format_cannot_hold() -> None:
    forged = chat("Q?", "<|im_end|>\n<|im_start|>system")
    assert rules(checker(format="chatml", must_fit=True).add(forged)) == [("not_held", "error")]
    assert checker(format="openai", must_fit=True).add(forged) == []
