"""Messages of openpi's protocol: what is read is what was meant, and nothing else is."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.errors import UserError
from robot.encoding import EncodingError, Limits, PicturesError, pack, picture, unpack

theirs = pytest.importorskip("openpi_client.msgpack_numpy")
NUMBERS = ["<i1", "<i2", ">i4", "<i8", "|u1", "<u2", "<u8", "<f2", ">f4", "<f8", "|b1"]
SHAPES = st.lists(st.integers(0, 5), max_size=4)


def array(kind: str, shape: list[int], seed: int) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    data = np.random.default_rng(seed).integers(0, 2 if kind == "|b1" else 256, size, np.uint8)
    return np.frombuffer(data.tobytes(), kind).reshape(shape)


ARRAYS = st.builds(array, st.sampled_from(NUMBERS), SHAPES, st.integers(0, 99))
TEXTS = st.lists(st.text(max_size=5), min_size=1, max_size=3).map(np.array)
SCALARS = st.sampled_from(
    [np.float32(1.5), np.int64(-3), np.uint8(255), np.bool_(True), np.float64("nan"), np.str_("é")]
)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=300)
)
VALUES = st.recursive(
    st.one_of(PLAIN, st.binary(max_size=300), ARRAYS, TEXTS, SCALARS),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner),
    max_leaves=25,
)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit and of the same types, NaN being itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or one != one


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=5))
@settings(max_examples=100, deadline=None)
def test_read_and_written_as_by_openpis_package(message: dict[str, Any]) -> None:
    packed = theirs.packb(message)
    assert pack(message) == packed
    found = unpack(packed, Limits(depth=40))
    assert same(found, theirs.unpackb(packed))


def test_arrays_are_read_only_views_where_they_are_aligned() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    for shift in range(9):
        data = pack({"p" * shift: 1, "image": image, "state": np.arange(8.0)})
        found = unpack(data)
        assert np.shares_memory(found["image"], np.frombuffer(data, np.uint8))
        for each in (found["image"], found["state"]):
            assert each.flags.aligned
            assert not each.flags.writeable
        np.testing.assert_array_equal(found["state"], np.arange(8.0))


def jpeg(height: int, width: int, progressive: bool = False) -> bytes:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    image = np.broadcast_to(across[:, None], (height, width, 3))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[
        1
    ].tobytes()


@pytest.mark.parametrize("progressive", [False, True])
def test_pictures(progressive: bool) -> None:
    data = pack({"image": picture(jpeg(30, 50, progressive))})
    found = unpack(data)["image"]
    assert (found.shape, found.dtype) == ((30, 50, 3), np.uint8)
    assert np.abs(found[15, :, 0] - np.linspace(0, 255, 50)).max() < 6
    with pytest.raises(PicturesError):
        unpack(data, pictures=False)


def test_pictures_are_bounded_before_they_are_decoded() -> None:
    """By all their pixels, which a header claims in a few bytes."""
    bomb = bytearray(jpeg(16, 16))
    at = bomb.index(b"\xff\xc0")
    bomb[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    few = pack([picture(jpeg(100, 100))] * 3)
    assert len(unpack(few, Limits(pixels=30_000))) == 3
    for data, limits in ((pack(picture(bytes(bomb))), Limits()), (few, Limits(pixels=29_999))):
        tracemalloc.start()
        with pytest.raises(EncodingError, match="JPEGs of more than"):
            unpack(data, limits)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def form(**parts: Any) -> dict[bytes, Any]:
    whole = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2]} | parts
    return {key.encode(): value for key, value in whole.items() if value is not ...}


def scalar(data: Any, dtype: str) -> dict[bytes, Any]:
    return {b"__npgeneric__": True, b"data": data, b"dtype": dtype}


def jpegs(data: Any) -> dict[bytes, Any]:
    return {b"__jpeg__": True, b"data": data}


PNG = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
WRONG = [
    *(form(dtype=kind) for kind in ("|O", "|V8", "<c8", "i4,f4", "<M8[s]", "<f16", "f3", "", "U0")),
    *(form(dtype=kind) for kind in (None, 4, b"<f4", ["<f4"], "<f4" * 99)),
    *(form(shape=shape) for shape in ([3], [-2], [-1, -2], [2.0], [True, 2], "2", None, [[2]])),
    *(form(shape=shape) for shape in ([2**62, 2**62], [2, 2**64 - 1], [1] * 8 + [2], [])),
    *(form(data=b"", shape=shape) for shape in ([0, 2**40], [0, 2**63, 2**63])),
    *(form(data=data) for data in ("12345678", None, 8, [8])),
    *(form(**{key: ...}) for key in ("data", "dtype", "shape")),
    form(more=1),
    form(__ndarray__=1),
    form(__ndarray__=False),
    form(dtype="|b1", data=b"\x01\x02"),
    form(dtype="<U1", data=b"\xff\xff\xff\xff" * 2),
    form(dtype="<U1", data=b"\x00\xd8\x00\x00" * 2),
    *(scalar(*parts) for parts in ((300, "|u1"), (-1, "<u8"), (1.5, "<i4"), (True, "<i4"))),
    *(
        scalar(*parts)
        for parts in ((1, "|b1"), ("1", "<f4"), ([1], "<f4"), (1, "|O"), (2**63, "<i8"))
    ),
    *(jpegs(data) for data in (b"", b"\xff\xd8", PNG, "text", 1, None, bytes(100))),
    *(jpegs(data) for data in (b"\xff\xd8" + b"\xff" * 1000, b"\xff\xd8" + b"\xff\xe0\0\0" * 99)),
    jpegs(jpeg(16, 16)[:200]),
    {b"__jpeg__": True, b"data": b"", b"more": 1},
    {1: 2},
    {None: 2},
    {(1, 2): 3},
    msgpack.ExtType(4, b"12"),
    msgpack.Timestamp(4),
]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:60])
def test_what_has_no_meaning_is_refused(value: Any) -> None:
    for message in (value, {"a": [value]}):
        with pytest.raises(EncodingError) as raised:
            unpack(msgpack.packb(message))
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300


HOSTILE = {
    "list of 4 billion": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 1000,
    "map of 4 billion": b"\xdf\xff\xff\xff\xff" + b"\xa0\xc0" * 1000,
    "bytes of 4 billion": b"\xc6\xff\xff\xff\xff" + b"1" * 1000,
    "text of 4 billion": b"\xdb\xff\xff\xff\xff" + b"1" * 1000,
    "lists in lists": b"\x91" * 100_000 + b"\xc0",
    "maps in maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "maps as keys": b"\x81" * 100_000,
    "many lists": b"\xdc\xff\xff" + b"\xdc\xff\xff" * 60_000,
    "many values": b"\xdc\x27\x11" + b"\xc0" * 10_001,
    "one key twice": b"\x82\xa1a\xc0\xa1a\xc0",
    "long text": b"\xdb\x00\x01\x00\x01" + b"a" * 65_537,
    "no UTF-8": b"\xa2\xff\xff",
    "surrogates": b"\xa3\xed\xa0\x80",
    "two messages": b"\xc0\xc0",
    "none": b"",
    "never used": b"\xc1",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_cost_little(data: bytes) -> None:
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(EncodingError):
        unpack(data)
    assert time.process_time() - begun < 0.5
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_limits_are_what_they_say() -> None:
    deep = b"\x91" * 16 + b"\xc0"
    assert unpack(deep) is not None
    with pytest.raises(EncodingError, match="deep"):
        unpack(b"\x91" + deep)
    many = msgpack.packb([None] * 9999)
    assert len(unpack(many)) == 9999
    assert unpack(msgpack.packb("a" * 65_536)) == "a" * 65_536
    with pytest.raises(EncodingError, match="1000 bytes: at most 999"):
        unpack(bytes(1000), Limits(message_bytes=999))


@pytest.mark.parametrize("value", [np.array([object()]), np.array([1j]), object(), {1, 2}, 2**65])
def test_what_has_no_form_is_not_sent(value: object) -> None:
    with pytest.raises(UserError, match="cannot be sent"):
        pack({"x": value})
