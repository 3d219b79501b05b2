"""Filters of a subscription: `column=operator.value`, joined by commas, all of which must hold.

Operators: eq neq lt lte gt gte in like ilike match imatch is isdistinct, each also after `not.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from devstack.realtime.database import Database
from devstack.realtime.pgoutput import Row

COMPARISONS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "~~",
    "ilike": "~~*",
    "match": "~",
    "imatch": "~*",
}
PATTERNS = {"like", "ilike", "match", "imatch"}
OPERATORS = {*COMPARISONS, "in", "is", "isdistinct"}
IS_VALUES = {"null", "true", "false", "unknown"}
MAX_IN_VALUES = 100
# Types whose text form is the value: compared here, without asking Postgres.
PLAIN_TYPES = {"uuid", "text", "varchar", "int2", "int4", "int8"}
PLAIN_OPERATORS = {"eq", "neq", "in"}
# What one filter's value or a changed column type brings about, as opposed to a lost connection.
UNUSABLE = (psycopg.DataError, psycopg.ProgrammingError)
FILTER_SYNTAX = re.compile(r"\s*([^=]+)=(not\.)?([a-z]+)\.(.*)", re.DOTALL)


class FilterRefused(ValueError):
    """The filter cannot be used; the text says why, in Realtime's words."""


@dataclass(frozen=True)
class ColumnType:
    """`name` as in pg_type; `sql` as a cast needs it."""

    name: str
    sql: str


@dataclass(frozen=True)
class Filter:
    """A filter that Postgres has accepted. `value` is a frozenset only where it is compared here."""

    column: str
    operator: str
    value: str | frozenset[str]
    negated: bool
    type_sql: str
    is_plain: bool

    def holds_for(self, actual: str | None) -> bool:
        """The answer for a plain filter: NULL never satisfies it, negated or not."""
        if actual is None:
            return False
        answer = actual in self.value if self.operator == "in" else actual == self.value
        return answer ^ (self.operator == "neq") ^ self.negated

    def question(self, actual: str | None) -> tuple[str, list[Any]]:
        """A SQL expression that is true or false, and its parameters."""
        left, right = f"(%s::text::{self.type_sql})", f"(%s::text::{self.type_sql})"
        parameters: list[Any] = [actual, self.value]
        match self.operator:
            case "in":
                expression = f"{left} = any(%s::text::{self.type_sql}[])"
            case "is":
                expression, parameters = f"{left} is {self.value}", [actual]
            case "isdistinct":
                expression = f"{left} is distinct from {right}"
            case operator:
                expression = f"{left} {COMPARISONS[operator]} {right}"
        negation = "not " if self.negated else ""
        return f"coalesce({negation}({expression}), false)", parameters


def split(text: str) -> list[str]:
    """The single filters of a subscription's `filter`; commas in parentheses or quotes do not separate."""
    parts, current, depth, quoted, escaped = [], "", 0, False, False
    for letter in text:
        if quoted and not escaped and letter == "\\":
            escaped = True
            current += letter
            continue
        if letter == '"' and not escaped and (quoted or current[-1:] in {".", "(", ","}):
            quoted = not quoted
        elif not quoted:
            depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0 and not quoted:
            parts.append(current)
            current = ""
        else:
            current += letter
        escaped = False
    return [*parts, current] if text else []


async def resolve(text: str, columns: Mapping[str, ColumnType], database: Database) -> Filter:
    """One single filter, its value normalised by Postgres and tried once.

    `columns`: those that the subscriber may read. Raises FilterRefused, or psycopg.Error when the value
    is not of the column's type or the operator does not exist for it.
    """
    found = FILTER_SYNTAX.fullmatch(text)
    if not found or found[3] not in OPERATORS:
        raise FilterRefused(f"Error parsing `filter` params: {text}")
    column, operator = found[1], found[3]
    if column not in columns:
        raise FilterRefused(f"invalid column for filter {column}")
    column_type = columns[column]
    value = await _value(operator, found[4], column_type, database)
    is_plain = isinstance(value, frozenset) or (
        column_type.name in PLAIN_TYPES and operator in PLAIN_OPERATORS - {"in"}
    )
    resolved = Filter(column, operator, value, bool(found[2]), column_type.sql, is_plain)
    if not is_plain:
        # One that cannot run must not spoil the question asked for all subscribers later.
        expression, parameters = resolved.question("" if operator in {"match", "imatch"} else None)
        await database.rows(f"select {expression}", parameters)
    return resolved


async def _value(
    operator: str, raw: str, column_type: ColumnType, database: Database
) -> str | frozenset[str]:
    if operator == "is":
        if raw not in IS_VALUES:
            raise FilterRefused("invalid value for is filter")
        return raw
    if operator == "in":
        return await _list(raw, column_type, database)
    if len(raw) > 1 and raw[0] == raw[-1] == '"':
        raw = re.sub(r"\\(.)", r"\1", raw[1:-1])
    if operator in PATTERNS:
        return raw
    ((normalised,),) = await database.rows(f"select (%s::text::{column_type.sql})::text", [raw])
    return str(normalised)


async def _list(raw: str, column_type: ColumnType, database: Database) -> str | frozenset[str]:
    if not (raw.startswith("(") and raw.endswith(")")):
        raise FilterRefused("`in` filter value must be wrapped by parentheses")
    literal = "{" + raw[1:-1] + "}"
    ((values,),) = await database.rows(f"select %s::text::{column_type.sql}[]::text[]", [literal])
    if len(values) > MAX_IN_VALUES:
        raise FilterRefused(f"too many values for `in` filter. Maximum {MAX_IN_VALUES}")
    is_plain = column_type.name in PLAIN_TYPES and None not in values
    return frozenset(values) if is_plain else literal


async def matching(filters: Iterable[Filter], row: Row, database: Database) -> set[Filter]:
    """Those filters that the row satisfies. One whose column the row lacks, or that fails, does not match."""
    present = [one for one in filters if one.column in row]
    asked = [one for one in present if not one.is_plain]
    held = {one for one in present if one.is_plain and one.holds_for(row[one.column])}
    if not asked:
        return held
    try:
        answers = await _answers(asked, row, database)
    except UNUSABLE:
        # A value may fail one filter only (a pattern that ends in a backslash): ask each alone.
        answers = [await _answer_alone(one, row, database) for one in asked]
    return held | {one for one, answer in zip(asked, answers, strict=True) if answer}


async def _answers(filters: list[Filter], row: Row, database: Database) -> list[bool]:
    questions = [one.question(row[one.column]) for one in filters]
    expressions = ", ".join(expression for expression, _ in questions)
    parameters = [value for _, values in questions for value in values]
    (answers,) = await database.rows(f"select {expressions}", parameters)
    return list(answers)


async def _answer_alone(one: Filter, row: Row, database: Database) -> bool:
    try:
        return (await _answers([one], row, database))[0]
    except UNUSABLE:
        return False
