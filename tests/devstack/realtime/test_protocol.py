"""Frames of both versions."""

from __future__ import annotations

import json

import pytest

from devstack.realtime.protocol import Message, decode, encode, subscription_id

MESSAGE = Message("1", "2", "realtime:a", "phx_join", {"config": {}})


def test_decode_version_1() -> None:
    frame = '{"event":"phx_join","payload":{"config":{}},"topic":"realtime:a","ref":"2","join_ref":"1"}'
    assert decode("1.0.0", frame) == MESSAGE


def test_decode_version_2() -> None:
    assert decode("2.0.0", '["1","2","realtime:a","phx_join",{"config":{}}]') == MESSAGE


def test_null_payload_is_empty() -> None:
    assert decode("2.0.0", '[null,"2","phoenix","heartbeat",null]').payload == {}
    assert decode("1.0.0", '{"event":"heartbeat","topic":"phoenix","ref":null}').payload == {}


def test_decode_binary_broadcast() -> None:
    frame = bytes([3, 1, 1, 10, 4, 2, 1]) + b"12realtime:amove{}" + b'{"x":1}'
    assert decode("2.0.0", frame) == Message("1", "2", "realtime:a", "broadcast", {})


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
@pytest.mark.parametrize(
    "frame", ["", "x", "5", "null", "[]", "{}", '{"topic":1,"event":"e"}', '[1,2,3,4,5]', b"", b"\x04" * 9]
)  # fmt: skip
def test_malformed(version: str, frame: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON, pydantic and our own errors are all ValueErrors
        decode(version, frame)


def test_encode() -> None:
    assert json.loads(encode("1.0.0", None, None, 'a"b', "system", '{"x":1}')) == {
        "topic": 'a"b',
        "event": "system",
        "payload": {"x": 1},
        "ref": None,  # present: the Python client drops a frame without it
    }
    assert json.loads(encode("2.0.0", "1", "2", "t", "phx_reply", "{}")) == ["1", "2", "t", "phx_reply", {}]


def test_subscription_ids_are_stable_and_true() -> None:
    one = subscription_id({"event": "*", "schema": "public"})
    assert one == subscription_id({"schema": "public", "event": "*"})
    assert 0 < one < 2**27
    assert one != subscription_id({"event": "INSERT", "schema": "public"})
