"""JSON files read entry by entry."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.corpora import json_stream
from ego_ops.corpora.json_stream import entries
from ego_ops.errors import UserError

CONTAINERS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.text(), CONTAINERS),
    st.sampled_from([1, 2, 7, 100]),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_same_as_reading_it_whole(tmp_path_factory, value, chunk, indent, ascii_only):
    path = tmp_path_factory.mktemp("json") / "a.json"
    written(path, json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        assert dict(entries(str(path))) == {
            key: item for key, item in value.items() if isinstance(item, dict | list)
        }


def test_wrapped_or_not(tmp_path):
    videos = {"a": {"n": 1}, "b": {"n": 2}}
    for text in (videos, {"version": 1.25, "videos": videos, "clips": [1]}):
        assert dict(entries(written(tmp_path / "a", json.dumps(text)), "videos")) == videos
    listed = {"date": "x", "videos": [{"n": 1}, {"n": 2}]}
    found = list(entries(written(tmp_path / "b", json.dumps(listed)), "videos"))
    assert found == [("0", {"n": 1}), ("1", {"n": 2})]
    assert list(entries(written(tmp_path / "c", "\ufeff [ [1], {} ]\n"))) == [("0", [1]), ("1", {})]
    assert list(entries(written(tmp_path / "d", "{}"))) == []


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("", 0),
        ("   ", 3),
        ("<html>", 0),
        ("3", 0),
        ('{"a": {"b": 1}', 14),
        ('{"a": {"b": 1}, "c": {"d"', 24),
        ('{"a": {"b": 1}, "é": [1 2]}', 25),
        ('{"a": [1]} x', 11),
        ('{"a" [1]}', 5),
        ('{"a": [1],}', 10),
        ("[[1], [2]", 9),
        (b'{"a": ["\xff"]}', 0),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_damage_is_said_in_one_line(tmp_path, monkeypatch, text, byte, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = written(tmp_path / "x.json", text)
    with pytest.raises(UserError) as error:
        list(entries(path, "videos"))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: not JSON at byte ")
    assert "download it again" in message
    place = int(message.split("at byte ")[1].split()[0].strip(","))
    assert abs(place - byte) <= (8 if isinstance(text, bytes) else 1)


def test_every_cut_of_a_file_is_noticed(tmp_path):
    whole = json.dumps({"videos": {"a": {"t": 1.5}, "b": {"t": [None, "é"]}}}, ensure_ascii=False)
    data = whole.encode()
    for length in range(len(data)):
        with pytest.raises(UserError, match="download it again"):
            list(entries(written(tmp_path / "cut", data[:length])))


def test_missing_and_deep_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        list(entries(str(tmp_path / "none")))
    with pytest.raises(UserError, match="nested too deeply"):
        list(entries(written(tmp_path / "deep", '{"a": ' + "[" * 100_000)))
