"""Review by keyboard: the riskiest pair, one key, the next pair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from cli.backend.client import Client, Row
from cli.backend.failures import explain
from cli.exits import ExitCode
from cli.review import calls
from cli.review.keyboard import END
from cli.review.screen import fix_view, pair_view, turns_of
from cli.screen.output import cell

PAGE_PAIRS = 20
MOST_PAIRS = 1000  # that the database gives at once: who skips more is done
KEYS = (
    "a approve  r reject  g gold star  1-5 rate  e edit answer  E edit question  f same fix to all  d delete"
    "  u undo  s skip  q quit"
)
NextKey = Callable[[], Awaitable[str]]
Edit = Callable[[str], Awaitable[str | None]]
NextPairs = Callable[[int], Awaitable[list[Row]]]


@dataclass
class Session:
    """One sitting of one reviewer over one dataset."""

    client: Client
    dataset_id: str
    next_pairs: NextPairs  # at most so many, those to be reviewed first
    next_key: NextKey
    edit: Edit
    console: Console
    counts: dict[str, int] = field(default_factory=dict)  # action -> pairs
    # Batch, pair and action of each step; the last one is undone first.
    _batches: list[tuple[str, str, str]] = field(default_factory=list)
    _passed: set[str] = field(default_factory=set)  # not to be shown again in this sitting
    _queue: list[Row] = field(default_factory=list)

    async def run(self) -> dict[str, int]:
        """What was done, when the reviewer quits or nothing is left: action -> number of pairs."""
        self.console.print(Text(KEYS, style="dim"))
        while (pair := await self._next()) is not None:
            if not await self._one(pair):
                return self.counts
        self.console.print(Text("Nothing is left to review.", style="green"))
        return self.counts

    async def _next(self) -> Row | None:
        limit = PAGE_PAIRS
        while not self._queue:
            pairs = await self.next_pairs(limit)
            self._queue = [pair for pair in pairs if pair["id"] not in self._passed]
            if len(pairs) < limit or limit == MOST_PAIRS:
                break
            limit = min(2 * limit, MOST_PAIRS)  # where all of them were skipped
        return self._queue.pop(0) if self._queue else None

    async def _one(self, pair: Row) -> bool:
        """False when the reviewer quits; True when the pair is done with."""
        source = await calls.source_of(self.client, pair)
        while True:
            self.console.print(pair_view(pair, source))
            key = await self._ask("review> ")
            if key in ("q", END):
                return False
            try:
                if await self._act(key, pair):
                    return True
            except Exception as error:
                # What was refused changed nothing; the pair is read again and shown as it is now.
                failure = explain(error)
                if failure is None or failure.exit_code in (ExitCode.UNREACHABLE, ExitCode.FORBIDDEN):
                    raise
                self.console.print(Text.assemble(("Error: ", "bold red"), cell(failure.message)))
            now = await calls.pairs_by_id(self.client, [pair["id"]])
            if not now:
                return True
            [pair] = now

    async def _act(self, key: str, pair: Row) -> bool:
        """True when another pair is to come next."""
        if key in ("a", "r", "d"):
            await self._review({"a": "approve", "r": "reject", "d": "delete"}[key], pair)
            self._passed.add(pair["id"])
            return True
        if key == "g":
            await self._review("no_gold_star" if pair["is_gold_star"] else "gold_star", pair)
        elif key in "12345" and len(key) == 1:
            await self._review("rate", pair, int(key))
        elif key in ("e", "E"):
            await self._edit(pair, "assistant" if key == "e" else "user")
        elif key == "f":
            await self._same_fix(pair)
        elif key == "u":
            return await self._undo(pair)
        elif key == "s":
            self._passed.add(pair["id"])
            return True
        else:
            self.console.print(Text(KEYS, style="dim"))
        return False

    async def _ask(self, prompt: str) -> str:
        self.console.print(Text(prompt, style="dim"), end="")
        key = await self.next_key()
        self.console.print(key if key.isprintable() else "", markup=False)
        return key

    async def _review(self, action: str, pair: Row, rating: int | None = None) -> None:
        done = await calls.review(self.client, self.dataset_id, action, ids=[pair["id"]], rating=rating)
        for batch in done["batch_ids"]:
            self._note(batch, pair["id"], action, 1)

    async def _edit(self, pair: Row, field_name: str) -> None:
        role = "assistant" if field_name == "assistant" else "user"
        if role == "user" and pair["messages"] is not None:
            self.console.print(
                "A conversation: edit its messages with `fineflow pairs edit`.", style="yellow"
            )
            return
        content = next(turn["content"] for turn in reversed(turns_of(pair)) if turn["role"] == role)
        written = await self.edit(content)
        if written is None:
            return
        done = await calls.edit(self.client, pair, {field_name: written})
        if done["batch_id"]:
            self._note(done["batch_id"], pair["id"], "edit", 1)

    async def _same_fix(self, pair: Row) -> None:
        shown = await calls.fix(self.client, pair["id"], preview=True)
        self.console.print(fix_view(shown))
        if not shown["matched"]:
            self.console.print("No other pair has it.", style="dim")
            return
        if await self._ask(f"Change {shown['matched']} other pairs? y/n> ") == "y":
            done = await calls.fix(self.client, pair["id"], preview=False)
            for batch in done["batch_ids"]:
                self._batches.append((batch, pair["id"], "fix"))
            self.counts["fix"] = self.counts.get("fix", 0) + done["changed"]

    async def _undo(self, shown: Row) -> bool:
        if not self._batches:
            self.console.print("Nothing to undo in this sitting.", style="dim")
            return False
        batch, pair_id, action = self._batches.pop()
        done = await calls.call(self.client, "undo_review", {"p_batch_id": batch})
        self.counts[action] = self.counts.get(action, 0) - done["undone"]
        self.console.print(f"Undone: {action}.", style="dim")
        self._passed.discard(pair_id)
        if pair_id == shown["id"]:
            return False
        self._queue = [*await calls.pairs_by_id(self.client, [pair_id]), shown, *self._queue]
        return True

    def _note(self, batch: str, pair_id: str, action: str, pairs: int) -> None:
        self._batches.append((batch, pair_id, action))
        self.counts[action] = self.counts.get(action, 0) + pairs
