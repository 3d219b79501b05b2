"""Phoenix channel messages on the wire.

Version 1.0.0 is a JSON object (the Python client), 2.0.0 a JSON array (supabase-js), where a broadcast is
sent as a binary frame.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

VERSIONS = ("1.0.0", "2.0.0")
BROADCAST_PUSH = 3


class Message(NamedTuple):
    """What a client sent."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, Any]


class ChangeRequest(BaseModel):
    """One entry of `config.postgres_changes`."""

    event: str = "*"
    schema_name: str | None = Field(default="public", alias="schema")
    table: str | None = "*"
    filter: str | None = None
    select: list[str] | None = None

    def __str__(self) -> str:
        schema, table = self.schema_name or "public", self.table or "*"
        return f"[event: {self.event}, schema: {schema}, table: {table}, filters: {self.filter or '[]'}]"


class WaitOptions(BaseModel):
    """`wait`: answer the join only when the changes are subscribed to."""

    wait: bool = False


class PresenceOptions(BaseModel):
    enabled: bool = False


class JoinConfig(BaseModel):
    """The parts of a join's `config` that matter here; null stands for the default."""

    model_config = ConfigDict(extra="ignore")

    postgres_changes: list[dict[str, Any]] | None = None
    postgres_changes_options: WaitOptions | None = None
    presence: PresenceOptions | None = None
    private: bool | None = None

    def requests(self) -> list[tuple[int, ChangeRequest]]:
        """The wanted changes with their ids. Raises pydantic.ValidationError."""
        return [
            (subscription_id(raw), ChangeRequest.model_validate(raw)) for raw in self.postgres_changes or []
        ]

    def echo(self) -> list[dict[str, Any]]:
        """The wanted changes word for word, each with its id: clients compare them with what they sent."""
        return [{**raw, "id": subscription_id(raw)} for raw in self.postgres_changes or []]

    @property
    def waits(self) -> bool:
        return self.postgres_changes_options is not None and self.postgres_changes_options.wait

    @property
    def has_presence(self) -> bool:
        return self.presence is not None and self.presence.enabled


_as_message: TypeAdapter[Message] = TypeAdapter(Message)


def subscription_id(request: dict[str, Any]) -> int:
    """The same for the same request, and never 0: the clients test it for truth."""
    return zlib.crc32(json.dumps(request, sort_keys=True).encode()) % (2**27 - 1) + 1


def decode(version: str, frame: str | bytes) -> Message:
    """The message in a frame. Raises ValueError."""
    if isinstance(frame, bytes):
        return _decode_broadcast(frame)
    raw = json.loads(frame)
    if version == "1.0.0":
        if not isinstance(raw, dict):
            raise ValueError("a message is a JSON object")
        raw = [raw.get("join_ref"), raw.get("ref"), raw.get("topic"), raw.get("event"), raw.get("payload")]
    if isinstance(raw, list) and len(raw) == len(Message._fields) and raw[-1] is None:
        raw[-1] = {}
    return _as_message.validate_python(raw)


def _decode_broadcast(frame: bytes) -> Message:
    """Kind, then the lengths of join_ref, ref, topic, event and metadata, the encoding, then the texts."""
    if len(frame) < 7 or frame[0] != BROADCAST_PUSH:
        raise ValueError("unknown binary frame")
    texts, start = [], 7
    for length in frame[1:4]:
        texts.append(frame[start : start + length].decode())
        start += length
    join_ref, ref, topic = texts
    return Message(join_ref or None, ref or None, topic, "broadcast", {})


def encode(
    version: str, join_ref: str | None, ref: str | None, topic: str, event: str, payload_json: str
) -> str:
    """A frame. The payload comes as JSON, so that one change is encoded once for many sockets."""
    if version == "1.0.0":
        return (
            f'{{"topic":{to_json(topic)},"event":{to_json(event)},"payload":{payload_json},'
            f'"ref":{to_json(ref)}}}'
        )
    return f"[{to_json(join_ref)},{to_json(ref)},{to_json(topic)},{to_json(event)},{payload_json}]"


def to_json(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
