"""Whether one of some patterns is anywhere in a text, at the speed of memory."""

from __future__ import annotations

from collections.abc import Callable

from pydantic_core import SchemaValidator, core_schema


def finder(*patterns: str) -> Callable[[bytes | str], bool]:
    """A function that says whether a text, UTF-8 when it is bytes, has one of the patterns in it.

    False of bytes that are no UTF-8, whatever is in them.

    Rust's regular expressions, which pydantic brings along, look for the literal beginnings of a few patterns
    in one pass of vector instructions: fifty times faster than `re`, which has to try each place. With more
    than about sixty beginnings, or ones of a single letter, that is lost. They know no look-around.
    """
    schema = core_schema.str_schema(pattern="|".join(patterns), regex_engine="rust-regex")
    return SchemaValidator(schema).isinstance_python
