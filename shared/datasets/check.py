"""Everything that speaks against a file of examples: all findings counted, the first of each rule listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.datasets.examples import Example
from shared.datasets.findings import Finding, Severity
from shared.datasets.limits import Limits
from shared.datasets.model import takes_turns
from shared.datasets.reading import UNREADABLE, Detected, Reading

LISTED_A_RULE = 20
FEW_ROWS = 10  # the fewest that OpenAI trains on


@dataclass
class FileReport:
    """What was found in one file. `findings` has the first ones of each rule, `counts` counts all."""

    file: str
    detected: Detected | None = None
    row_count: int = 0
    example_count: int = 0  # rows without an error
    question_count: int = 0  # different ones
    char_count: int = 0  # of all messages of the examples
    error_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def is_valid(self) -> bool:
        return self.error_count == 0

    @property
    def is_readable(self) -> bool:
        return not UNREADABLE & self.counts.keys()

    def add(self, finding: Finding, listed_a_rule: int) -> None:
        self.counts[finding.rule] += 1
        self.error_count += finding.is_error
        if self.counts[finding.rule] <= listed_a_rule:
            self.findings.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """In the shape of the function validate-dataset, with the file's own facts beside it."""
        return {
            "file": self.file,
            "valid": self.is_valid,
            "readable": self.is_readable,
            "format": self.detected.format if self.detected else None,
            "evidence": self.detected.evidence if self.detected else None,
            "errors": [finding.as_dict() for finding in self.findings if finding.is_error],
            "warnings": [finding.as_dict() for finding in self.findings if not finding.is_error],
            "counts": dict(self.counts),
            "stats": {
                "totalPairs": self.example_count,
                "totalRows": self.row_count,
                "uniqueQuestions": self.question_count,
                "avgCharsPerPair": round(self.char_count / self.example_count, 2)
                if self.example_count
                else 0,
            },
        }


def check_file(
    path: Path,
    limits: Limits | None = None,
    mapping: Mapping[str, str] | None = None,
    listed_a_rule: int = LISTED_A_RULE,
) -> FileReport:
    """The report on a file, whatever it holds."""
    report = FileReport(path.name)
    reading = Reading(path, limits or Limits(), mapping or {})
    first_lines: dict[int, int] = {}  # hash of a row: the line that said it first
    questions: set[int] = set()
    for item in reading:
        if isinstance(item, Finding):
            report.add(item, listed_a_rule)
            continue
        found = [*_about(item, path.name), *_repeated(item, path.name, first_lines)]
        for finding in found:
            report.add(finding, listed_a_rule)
        if not any(finding.is_error for finding in found):
            report.example_count += 1
            report.char_count += sum(len(message.content) for message in item.messages)
            questions.add(hash(next((m.content for m in item.messages if m.role == "user"), "")))
    report.detected, report.row_count = reading.detected, reading.row_count
    report.question_count = len(questions)
    if report.is_readable and 0 < report.row_count < FEW_ROWS:
        message = f"{report.row_count} rows; at least {FEW_ROWS} are needed to train."
        report.add(Finding("few_rows", "warning", message, path.name, hint="Add rows."), listed_a_rule)
    return report


def _about(example: Example, file: str) -> Iterator[Finding]:
    def found(rule: str, message: str, hint: str, severity: Severity = "error") -> Finding:
        return Finding(rule, severity, message, file, example.line, None, hint)

    messages = example.messages
    for message in (*messages, *(example.rejected or ())):
        if not message.tool_calls and not message.content.strip():
            yield found(
                "empty_message", f"A {message.role} message is empty.", "Fill it in or take the row out."
            )
            break
    if any(end[-1].role != "assistant" for end in (messages, example.rejected) if end):
        hint = "Take the last message off, or add the answer."
        yield found("no_answer", "The assistant has not the last word.", hint)
    if any(message.role == "system" for message in messages[1:]):
        yield found("system_not_first", "A system message stands after the first.", "Put it first.")
    elif not takes_turns(messages):
        hint = "The user begins, then both take turns; calls of tools and their results may stand between."
        yield found("turn_order", "User and assistant do not take turns.", hint)
    if example.rejected is not None and example.rejected[-1:] == messages[-1:]:
        yield found("same_ends", "The better and the worse answer are the same.", "Take the row out.")


def _repeated(example: Example, file: str, first_lines: dict[int, int]) -> Iterator[Finding]:
    calls = [message.tool_calls for message in example.messages if message.tool_calls]
    key = hash((example, str(example.tools), str(calls)))
    first = first_lines.setdefault(key, example.line)
    if first != example.line:
        hint = "Take it out; a repeated row weighs double in training."
        message = f"The same as line {first}."
        yield Finding("duplicate_row", "warning", message, file, example.line, None, hint)
