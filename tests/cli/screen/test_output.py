"""What reaches the terminal: text, never markup or control codes."""

import io

import pytest
from rich.console import Console

from cli.demo.story import Story, shown
from cli.screen.bars import dataset_bar, job_bar
from cli.screen.output import cell, dollars, facts, table


def printed(view) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(view)
    return stream.getvalue()


def test_markup_and_control_codes_in_data_stay_text() -> None:
    assert cell("[red]x[/red]\x1b[2J\x07").plain == "[red]x[/red] [2J "
    assert "[bold]" in printed(facts([("name", "[bold]")]))


def test_an_empty_table_says_what_to_do() -> None:
    assert printed(table(("id",), [], empty="Nothing yet.")) == "Nothing yet.\n"
    assert printed(table(("id", "name"), [(1, None)], empty="")).split() == ["id", "name", "1", "-"]


@pytest.mark.parametrize(
    ("amount", "text"), [(None, "unknown"), (0, "$0.00"), (0.0123, "$0.0123"), (12.5, "$12.50")]
)
def test_small_amounts_do_not_round_to_nothing(amount: float | None, text: str) -> None:
    assert dollars(amount) == text


def test_without_a_terminal_the_bar_is_a_line_for_each_state() -> None:
    stream = io.StringIO()
    with job_bar(Console(file=stream, width=100)) as bar:
        bar.update({"status": "pending", "current_step": "Waiting to start"})
        for step in range(1, 50):
            bar.update({"status": "training", "step": step, "total_steps": 50, "progress_percent": 2 * step})
        bar.update({"status": "completed", "progress_percent": 100, "current_step": "Completed"})
    first, *middle, last = stream.getvalue().splitlines()
    assert "Waiting to start" in first
    assert middle == ["     2 %  step 1/50"]
    assert "Completed" in last


def test_the_bar_of_a_dataset_says_why_its_batch_waits() -> None:
    stream = io.StringIO()
    row = {"status": "generating", "chunk_count": 4, "warning": {"message": "Its batch waits: 429."}}
    with dataset_bar(Console(file=stream, width=100)) as bar:
        bar.update(row)
    assert stream.getvalue().strip() == "0 %  0 pairs from 0 of 4 chunks. Its batch waits: 429."


def test_a_chapter_is_numbered_and_timed() -> None:
    stream = io.StringIO()
    story = Story(Console(file=stream, width=60))
    with story.chapter("First"):
        story.say("[not markup]")
    text = stream.getvalue()
    assert "1 First" in text
    assert "   [not markup]" in text
    assert "0.0 s" in text


def test_an_answer_of_noise_is_cut_and_cleaned() -> None:
    assert shown("").plain == "(nothing)"
    noise = shown("a\x00b\n" * 500).plain
    assert len(noise) == 90
    assert noise.isprintable()
