"""How the demo is told: numbered chapters, each with the time it took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cli.demo.questions import Question
from cli.screen.output import cell

INDENT = 3
SHOWN_ANSWER = 90  # characters: noise can be long


@dataclass(frozen=True)
class Answered:
    """One question and what was said before and after training."""

    question: Question
    before: str
    after: str
    is_right_before: bool
    is_right_after: bool


class Story:
    """Prints chapters on a console. Without a terminal it is plain lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started_at = time.monotonic()
        self.chapters = 0

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self.started_at

    def title(self, text: str, subtitle: str) -> None:
        self.console.print(Text(text, style="bold"))
        self.console.print(Text(subtitle, style="dim"))

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A numbered heading; the time the chapter took is below it once it ends well."""
        self.chapters += 1
        began_at = time.monotonic()
        self.console.print()
        heading = Text.assemble((f"{self.chapters} ", "bold cyan"), (title, "bold"))
        self.console.print(Rule(heading, align="left", style="dim", characters="─"))
        yield
        self.show(Text(f"{time.monotonic() - began_at:.1f} s", style="dim"))

    def say(self, text: str) -> None:
        """One paragraph, indented and wrapped."""
        self.show(cell(text))

    def remark(self, text: str) -> None:
        """A line that matters less than what is said."""
        self.show(Text(cell(text).plain, style="dim"))

    def show(self, what: RenderableType) -> None:
        self.console.print(Padding(what, (0, 0, 0, INDENT), expand=False))

    def pair(self, question: str, answer: str) -> None:
        """A training pair as an example."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(Text("Q", style="cyan"), cell(question))
        grid.add_row(Text("A", style="cyan"), cell(answer))
        self.show(grid)

    def answers(self, answered: Sequence[Answered]) -> None:
        """Question, before and after side by side."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, leading=1, expand=True)
        table.add_column("question", ratio=3, overflow="fold")
        table.add_column("before training", ratio=3, overflow="fold", style="dim")
        table.add_column("after training", ratio=4, overflow="fold")
        table.add_column("right", width=5)
        for one in answered:
            verdict = Text("yes", style="green") if one.is_right_after else Text("no", style="red")
            table.add_row(cell(one.question.text), shown(one.before), shown(one.after), verdict)
        self.show(table)

    def command(self, line: str) -> None:
        """A command to copy: never wrapped."""
        self.console.print(Text(" " * INDENT + line, style="bold"), soft_wrap=True)

    def rule(self) -> None:
        self.console.print()
        self.console.print(Rule(style="dim", characters="─"))


def shown(answer: str) -> Text:
    """An answer that is safe to print and not too long; an empty one says so."""
    text = " ".join(cell(answer).plain.replace("\ufffd", " ").split())
    if not text:
        return Text("(nothing)", style="dim italic")
    return Text(text if len(text) <= SHOWN_ANSWER else text[: SHOWN_ANSWER - 1] + "…")
