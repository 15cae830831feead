"""What is written in either encoding is read back, and nothing else is read at all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import sys
from pathlib import Path
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import BaseModel

from callboard_core.calls import artifacts, codec
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.calls.envelopes import encode_call, encode_result, read_call, read_reply
from callboard_core.errors import BadPayload, BadRequest, Failed, TooLarge

np = pytest.importorskip("numpy")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts  # fmt: skip
values = st.recursive(
    plain | st.binary(max_size=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(lambda key: not key.startswith("$")), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
some_arrays = arrays.arrays(
    dtype=st.sampled_from(["<f8", "<f4", "<i2", "|u1", "|b1", "<c16", ">i4"]),
    shape=arrays.array_shapes(max_dims=3, max_side=4),
)


@given(st.dictionaries(texts.filter(bool), values, max_size=4))
def test_arguments_are_read_as_they_were_given(args: dict):
    call = read_call(encode_call("id", "callboard/me/reply", args, now=1000.0, timeout=5.0))
    assert call.args == args
    assert (call.id, call.reply_to, call.t, call.expires) == ("id", "callboard/me/reply", 1000.0, 1005.0)


@given(values, st.booleans())
def test_results_are_read_as_they_were_returned(result: object, binary: bool):
    reply = read_reply(encode_result("id", result, msgpack=binary))
    assert reply.ok
    assert reply.result == result


@given(some_arrays, st.booleans())
def test_arrays_are_read_as_they_were_returned(array, binary: bool):
    found = read_reply(encode_result("id", {"a": array}, msgpack=binary)).result["a"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


def test_only_what_needs_it_is_messagepack():
    assert encode_call("id", None, {"x": 1}, now=0, timeout=1).startswith(b"{")
    assert codec.is_msgpack(encode_call("id", None, {"x": b"\xff"}, now=0, timeout=1))
    assert encode_result("id", [1], msgpack=True).startswith(b"{")
    assert encode_result("id", b"\xff").startswith(b"{")
    assert json.loads(encode_result("id", b"\xff"))["result"] == {"$bytes": "/w=="}


def test_without_numpy_an_array_is_its_type_shape_and_bytes(monkeypatch: pytest.MonkeyPatch):
    payload = encode_result("id", np.arange(6, dtype="<i2").reshape(2, 3), msgpack=True)
    monkeypatch.setitem(sys.modules, "numpy", None)
    found = read_reply(payload).result
    assert found == codec.Array("<i2", (2, 3), np.arange(6, dtype="<i2").tobytes())
    assert encode_result("id", found, msgpack=True) == payload


class Colour(enum.StrEnum):
    RED = "red"


def test_numbers_of_numpy_and_members_of_enums_travel_as_what_they_hold():
    args = {"n": np.float64(0.5), "b": b"", "c": Colour.RED, "i": np.int64(3)}
    assert read_call(encode_call("id", None, args, now=0, timeout=1)).args == {
        "n": 0.5,
        "b": b"",
        "c": "red",
        "i": 3,
    }
    assert read_call(encode_call("id", None, {"c": Colour.RED}, now=0, timeout=1)).args == {"c": "red"}


class Point(BaseModel):
    x: float
    name: str = ""


@dataclasses.dataclass
class Size:
    width: int


def test_models_and_dates_travel_in_their_json_form():
    args = {
        "p": Point(x=1),
        "s": [Size(3)],
        "d": dt.date(2026, 1, 2),
        "u": UUID(int=5),
        "f": Path("a/b"),
        "b": b"\xff",
    }
    assert read_call(encode_call("id", None, args, now=0, timeout=1)).args == {
        "p": {"x": 1.0, "name": ""},
        "s": [{"width": 3}],
        "d": "2026-01-02",
        "u": "00000000-0000-0000-0000-000000000005",
        "f": "a/b",
        "b": b"\xff",
    }
    with pytest.raises(BadRequest, match=r"^p\.x: NaN"):
        encode_call("id", None, {"p": Point(x=float("nan"))}, now=0, timeout=1)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({1, 2}, "x"),
        ((n for n in range(2)), "x"),
        (object(), "x"),
        (float("nan"), "x"),
        ([b"", float("inf")], "x.1"),
        ({"y": {"z": {3}}, "b": b""}, "x.y.z"),
        ({1: b""}, "x"),
        ([b"", np.array(["text"])], ""),
        ([b"", np.array([object()])], ""),
    ],
)
def test_what_does_not_travel_is_refused_and_named(value: object, key: str):
    with pytest.raises(BadRequest) as caught:
        encode_call("id", None, {"x": value}, now=0, timeout=1)
    assert key in str(caught.value)
    with pytest.raises(Failed):
        encode_result("id", {"x": value}, msgpack=True)


def test_what_holds_itself_is_refused():
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(BadRequest, match="holds itself"):
        encode_call("id", None, {"x": ring}, now=0, timeout=1)


def test_what_is_too_large_is_refused():
    with pytest.raises(TooLarge):
        encode_call("id", None, {"x": b"0" * 1_100_000}, now=0, timeout=1)
    with pytest.raises(TooLarge):
        encode_result("id", b"0" * 1_100_000, msgpack=True)
    with pytest.raises(TooLarge):
        read_call(msgpack.packb({"id": "a", "args": {"x": b"0" * 1_100_000}}))


def message(result: object) -> bytes:
    return msgpack.packb({"id": "a", "ok": True, "result": result})


@pytest.mark.parametrize(
    "payload",
    [
        b"\x81",
        b"\x81\xa1a",
        b"\xdf\xff\xff\xff\xff",
        message(msgpack.ExtType(2, b"")),
        message(msgpack.ExtType(1, b"")),
        message(msgpack.ExtType(1, msgpack.packb(["<f8", [1], b""]))),
        message(msgpack.ExtType(1, msgpack.packb(["|O8", [1], b"01234567"]))),
        message(msgpack.ExtType(1, msgpack.packb(["<f8", [-1], b""]))),
        message(msgpack.ExtType(1, msgpack.packb(["<f8", [2**40, 0], b""]))) + b"x",
        message(float("nan")),
        message({1: 2}),
        msgpack.packb({"id": 5, "ok": True}),
        msgpack.packb({"ok": True}),
        b'{"id": "a", "ok": true, "result": {"$bytes": "*"}}',
        b'{"id": "a", "ok": true, "result": {"$array": {"dtype": "|O8", "shape": [1], "data": "AAAAAAAAAAA="}}}',
    ],
)
def test_damaged_messages_are_refused(payload: bytes):
    with pytest.raises(BadPayload):
        read_reply(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes):
    for first in (b"", b"\x82", b"\x83\xa2id\xa1a\xa2ok\xc3\xa6result"):
        for read in (read_call, read_reply):
            try:
                read(first + payload)
            except BadRequest:
                continue


class Shelf:
    """A store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, data, *, type):  # noqa: A002 - the protocol's
        ref = ArtifactRef(
            sha256=f"{len(self.kept):064x}", size=len(data), type=type, url=f"/a/{len(self.kept)}"
        )
        self.kept[ref.url] = data
        return ref

    def get(self, ref):
        return self.kept[ref.url]


@pytest.mark.parametrize("result", [b"\x00\xff", {"a": [1, 2]}, {"a": b"\xff"}, "text"])
def test_a_stored_result_is_fetched_as_it_was(result: object):
    shelf = Shelf()
    answer = artifacts.store(shelf, result)
    ref = artifacts.reference(json.loads(json.dumps(answer)))
    assert ref is not None
    assert artifacts.fetch(shelf, ref) == result


def test_what_is_no_reference_is_none_and_a_damaged_one_is_refused():
    assert artifacts.reference({"a": 1}) is None
    assert artifacts.reference([1]) is None
    with pytest.raises(BadPayload, match="sha256"):
        artifacts.reference({"$artifact": {"sha256": "short", "size": 1, "type": "x", "url": "y"}})
