"""Whom the examples of a chunk are written for, and how: another mixture for each chunk, always the same."""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from shared.generation.prompt_set import Prompts, sections


@dataclass(frozen=True)
class Variety:
    """The mixtures that chunks go through in turn."""

    line: str  # a template with $audience, $genre and $style
    audiences: tuple[str, ...]
    genres: tuple[str, ...]
    styles: tuple[str, ...]

    @classmethod
    def of(cls, prompts: Prompts, audiences: tuple[str, ...] = (), styles: tuple[str, ...] = ()) -> Variety:
        """As the prompt `variety` has it; audiences and styles of the dataset take the place of its own."""
        text = prompts.text("variety")
        found = sections(text)
        return cls(
            line=text.split("\n#")[0].strip(),
            audiences=audiences or tuple(found["Audiences"]),
            genres=tuple(found["Genres"]),
            styles=styles or tuple(found["Styles"]),
        )

    def for_chunk(self, ordinal: int) -> str:
        """The line for the chunk at this place of the dataset.

        Neighbours differ in all three, and after audiences x genres x styles chunks each mixture came once.
        """
        block, place = divmod(ordinal, len(self.audiences))
        round_, block = divmod(block, len(self.genres))
        genre = (place + block) % len(self.genres)
        style = (place + round_) % len(self.styles)
        return Template(self.line).substitute(
            audience=self.audiences[place], genre=self.genres[genre], style=self.styles[style]
        )
