"""Files are written whole or not at all, and read with file and line in every error."""

import pytest

from utils import jsonl
from utils.errors import InvalidFile


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [{"id": 1, "text": "Füße\n"}, {"id": 2, "nested": {"a": [1, 2.5, None]}}]
    assert jsonl.write(tmp_path / "new" / "rows.jsonl", iter(rows)) == 2
    assert list(jsonl.read(tmp_path / "new" / "rows.jsonl")) == rows


def test_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": 2}')
    assert [row["a"] for row in jsonl.read(path)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [('{"a": ', "not JSON"), ("[1]", "expected an object, not list"), ("\xff", "not JSON")],
    ids=["broken", "a list", "no text"],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line.encode("latin-1"))
    with pytest.raises(InvalidFile, match=rf"rows\.jsonl:2: {reason}"):
        list(jsonl.read(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidFile, match=r"none\.jsonl: cannot be read"):
        list(jsonl.read(tmp_path / "none.jsonl"))


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, [{"a": 1}])
    with pytest.raises(TypeError):
        jsonl.write(path, [{"a": 2}, {"a": object()}])
    assert list(jsonl.read(path)) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_was_written(tmp_path):
    jsonl.write(tmp_path / "rows.jsonl", [{"a": 1}])
    jsonl.write_json(tmp_path / "run.json", {"a": 1})
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_an_absent_json_file_is_an_empty_object(tmp_path):
    assert jsonl.read_json(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[]"], ids=["broken", "a list"])
def test_a_json_file_that_is_no_object_is_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InvalidFile, match=r"run\.json"):
        jsonl.read_json(path)
