import json
import re

import pytest

from nemo_local.customizer.row_files import Rows, find_files, validation_numbers
from nemo_local.customizer.rows import ChatRow, InvalidRow, RowReader, TextRow, parse_template
from tests.nemo_local.customizer.tiny_llama import call_row, tool, write_rows


def read(tmp_path, *lines, reader=None, name="training/a.jsonl", limit=None):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return list((reader or RowReader()).read(tmp_path, [path], limit))


@pytest.mark.parametrize(
    ("files", "training", "validation"),
    [
        (["training/b.jsonl", "training/a.jsonl", "validation/v.jsonl", "testing/t.jsonl"],
         ["training/a.jsonl", "training/b.jsonl"], ["validation/v.jsonl"]),
        (["train/a.json", "dev/v.jsonl"], ["train/a.json"], ["dev/v.jsonl"]),
        (["train-1.jsonl", "val.jsonl", "README.md"], ["train-1.jsonl"], ["val.jsonl"]),
        (["rows.jsonl"], ["rows.jsonl"], []),
        (["validation/v.jsonl", "rows.jsonl"], [], ["validation/v.jsonl"]),
        (["trainset.jsonl", "valset.jsonl", "devices.jsonl"], ["trainset.jsonl"], ["valset.jsonl"]),
        (["training/a.jsonl", "training/._a.jsonl", "training/.ipynb_checkpoints/a-copy.jsonl",
          "validation/.v.jsonl"], ["training/a.jsonl"], []),
        (["rows.jsonl", "._rows.jsonl"], ["rows.jsonl"], []),
    ],
    ids=["tutorial", "other folders", "root files", "anything", "no training data", "beginnings",
         "hidden in folders", "hidden root files"],
)  # fmt: skip
def test_files_are_found_by_folder_then_by_name(tmp_path, files, training, validation):
    for name in files:
        write_rows(tmp_path / name, [])
    found = find_files(tmp_path)
    names = [[str(path.relative_to(tmp_path)) for path in paths] for paths in found]
    assert names == [training, validation]


@pytest.mark.parametrize("name", ["devices", "values", "validity", "developers"])
def test_a_file_whose_name_only_begins_like_validation_is_training_data(tmp_path, name):
    path = write_rows(tmp_path / f"{name}.jsonl", [])
    assert find_files(tmp_path) == ([path], [])


@pytest.mark.parametrize("name", ["dev", "dev-1", "val_2", "val2", "valid.a", "validation-b"])
def test_a_file_whose_name_begins_with_a_word_for_validation_is_that(tmp_path, name):
    path = write_rows(tmp_path / f"{name}.jsonl", [])
    assert find_files(tmp_path) == ([], [path])


def test_arguments_and_tools_may_be_objects_or_json_text(tmp_path):
    row = call_row(1)
    call = row["messages"][1]["tool_calls"][0]["function"]
    as_text = {
        "messages": [
            row["messages"][0],
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
                ],
            },
        ],
        "tools": json.dumps(row["tools"]),
    }
    first, second = read(tmp_path, json.dumps(row), json.dumps(as_text))
    assert isinstance(first, ChatRow) and isinstance(second, ChatRow)
    assert (first.messages, first.tools) == (second.messages, second.tools)


def test_messages_are_normalised_as_inference_normalises_them(tmp_path):
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
        {"role": "user", "content": "c", "extra": 1},
        {"role": "function", "name": "f", "content": "d"},
        {"role": "assistant"},
    ]
    (row,) = read(tmp_path, json.dumps({"messages": messages, "extra": 1}))
    assert isinstance(row, ChatRow)
    assert row.messages == [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": "c"},
        {"role": "tool", "content": "d", "name": "f"},
        {"role": "assistant", "content": ""},
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [', "training/a.jsonl line 3: not JSON (Expecting value, column 15)"),
        ("[1]", "line 3: a row must be a JSON object, not list"),
        ('{"text": "x"}', "line 3: the row has neither 'messages' nor 'prompt', 'completion'"),
        ('{"prompt": "x", "completion": null}', "it has ['completion' (null), 'prompt']"),
        ('{"messages": []}', "'messages' must be a list with at least one message"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant message"),
        ('{"messages": [{"role": "assistant", "content": "Hello!"}, {"role": "user"}]}',
         "the only assistant message is the first, which answers nothing, so there is nothing"),
        ('{"messages": [{"role": "bot"}]}', "message 1: role 'bot' is not one of"),
        ('{"messages": [{"role": "user", "content": 3}]}', "content must be text"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{}]}]}', "needs function.name"),
        ('{"messages": [{"role": "assistant", "tool_calls": 3}]}', "must be a list"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"function": '
         '{"name": "f", "arguments": "{"}}]}]}', "arguments are not JSON"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"function": '
         '{"name": "f", "arguments": [1]}}]}]}', "arguments of 'f' must be a JSON object"),
        ('{"messages": [{"role": "assistant"}], "tools": [{}]}', "each tool needs function.name"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_with_its_file_and_number(tmp_path, line, words):
    good = json.dumps(call_row(1))
    with pytest.raises(InvalidRow) as error:
        read(tmp_path, good, "", line)
    assert words in str(error.value) and "training/a.jsonl line 3" in str(error.value)


def test_a_json_file_may_hold_a_list_of_rows(tmp_path):
    rows = read(tmp_path, json.dumps([call_row(1), call_row(2)]), name="training/a.json")
    assert len(rows) == 2


def test_a_json_file_that_holds_no_list_is_read_line_by_line(tmp_path):
    lines = ["", json.dumps(call_row(1)), json.dumps(call_row(2))]
    rows = read(tmp_path, *lines, name="training/a.json")
    assert [row.where for row in rows] == [f"training/a.json line {n}" for n in (2, 3)]


def test_a_broken_list_is_named_with_its_line(tmp_path):
    with pytest.raises(InvalidRow, match=r"training/a.json line 2: not JSON \(Expecting value\)"):
        read(tmp_path, "[", "?", name="training/a.json")


@pytest.mark.parametrize("before", [0, 20_000], ids=["at once", "after many lines"])
def test_text_that_is_not_utf8_is_refused_by_name_and_place(tmp_path, before):
    path = tmp_path / "a.jsonl"
    line = '{"prompt": "é", "completion": "b"}\n'.encode()
    path.write_bytes(line * before + b'{"prompt": "\xff"}')
    place = len(line) * before + 12
    with pytest.raises(InvalidRow, match=rf"a\.jsonl: not UTF-8 text \(.* at byte {place}\)"):
        list(RowReader().read(tmp_path, [path]))


def test_lines_may_end_as_on_windows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"prompt": "a", "completion": "b"}\r\n' * 2)
    rows = RowReader().read(tmp_path, [path])
    assert list(rows) == [TextRow("a ", "b", f"a.jsonl line {number}") for number in (1, 2)]


def test_a_line_separator_inside_text_does_not_end_a_row(tmp_path):
    row = {"prompt": "a\u2028b", "completion": "c"}
    assert read(tmp_path, json.dumps(row, ensure_ascii=False))[0] == TextRow(
        "a\u2028b ", "c", "training/a.jsonl line 1"
    )


def test_a_prompt_template_names_the_keys(tmp_path):
    reader = RowReader("Q: {question} ({hint}) A: {answer}")
    row = {"question": "2x2", "hint": "even", "answer": 4, "more": 1}
    (made,) = read(tmp_path, json.dumps(row), reader=reader)
    assert made == TextRow("Q: 2x2 (even) A: ", "4", "training/a.jsonl line 1")


def test_a_completion_that_is_an_object_is_learnt_as_json_and_not_as_python(tmp_path):
    row = {"prompt": ["a", "é"], "completion": {"name": "f", "ok": True, "x": None}}
    (made,) = read(tmp_path, json.dumps(row))
    assert (made.prompt, made.completion) == ('["a", "é"] ', '{"name": "f", "ok": true, "x": null}')


def test_a_function_call_of_old_is_a_tool_call_and_not_an_empty_answer(tmp_path):
    call = {"name": "f", "arguments": '{"a": 1}'}
    answer = {"role": "assistant", "content": None, "function_call": call}
    row = {"messages": [{"role": "user", "content": "w?"}, answer]}
    (made,) = read(tmp_path, json.dumps(row))
    assert made.messages[1]["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    ]


def test_calls_that_are_stored_as_text_may_be_null_where_there_are_none(tmp_path):
    calls = json.dumps([{"function": {"name": "f", "arguments": {"a": 1}}}])
    none = {"tool_calls": "null", "function_call": "null"}
    messages = [
        {"role": "user", "content": "w?", **none},
        {"role": "assistant", "content": None, **none, "tool_calls": calls},
        {"role": "tool", "content": "1", **none},
        {"role": "assistant", "content": "it is 1", **none},
    ]
    (made,) = read(tmp_path, json.dumps({"messages": messages}))
    assert [len(message.get("tool_calls", [])) for message in made.messages] == [0, 1, 0, 0]


def test_a_prompt_that_names_a_key_itself_stays_as_it_is(tmp_path):
    row = {"prompt": "say {completion}", "completion": "secret"}
    (made,) = read(tmp_path, json.dumps(row), reader=RowReader("{{x}} {prompt} {completion}"))
    assert made == TextRow("{x} say {completion} ", "secret", "training/a.jsonl line 1")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "must end with the key of the answer, such as {completion}"),
        ("no key", "must end with the key of the answer"),
        ("{prompt} {completion}.", "must end with the key of the answer"),
        ("{prompt} {", "write {{ and }} for braces"),
        ("{prompt:>5} {completion}", "braces must hold the key of a row and nothing else"),
        ("{} {completion}", "braces must hold the key of a row and nothing else"),
    ],
)
def test_a_prompt_template_that_cannot_be_filled_is_refused(template, words):
    with pytest.raises(InvalidRow, match=re.escape(words)):
        parse_template(template)


def test_arguments_nested_too_deep_to_read_are_refused_with_their_line(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    call = {"function": {"name": "f", "arguments": deep}}
    row = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    with pytest.raises(InvalidRow, match=r"a\.jsonl line 1.*arguments cannot be read"):
        read(tmp_path, json.dumps(row))
    (tmp_path / "a.json").write_text(deep)
    with pytest.raises(InvalidRow, match=r"a\.json: cannot be read"):
        list(RowReader().read(tmp_path, [tmp_path / "a.json"]))


def test_rows_without_tools_get_those_of_the_job(tmp_path):
    bare = call_row(1) | {"tools": []}
    reader = RowReader(default_tools=(tool("other"),))
    first, second = read(tmp_path, json.dumps(bare), json.dumps(call_row(1)), reader=reader)
    assert [t["function"]["name"] for t in first.tools] == ["other"]
    assert [t["function"]["name"] for t in second.tools] == ["add", "sum"]


def test_the_limit_counts_over_all_files(tmp_path):
    files = [write_rows(tmp_path / f"{n}.jsonl", [call_row(1)] * 3) for n in range(2)]
    assert len(list(RowReader().read(tmp_path, files, limit=4))) == 4
    assert len(list(RowReader().read(tmp_path, files, limit=10**20))) == 6


@pytest.mark.parametrize(("count", "validation"), [(1, 0), (2, 1), (19, 1), (40, 4)])
def test_a_tenth_is_split_off_and_it_is_always_the_same(tmp_path, count, validation):
    lines = [{"prompt": str(number), "completion": "c"} for number in range(count)]
    rows = Rows(RowReader(), tmp_path, [write_rows(tmp_path / "a.jsonl", lines)])
    training, split = map(list, rows.split(count))
    assert len(split) == validation and len(training) == count - validation
    assert [training, split] == [list(part) for part in rows.split(count)]
    assert set(training) | set(split) == set(rows) and not set(training) & set(split)


def test_the_tenth_that_is_split_off_is_that_of_every_release():
    assert validation_numbers(40) == {9, 12, 13, 22}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "a", "rejected": "b"}, "a preference row needs 'prompt'; it has"),
        ({"prompt": "p", "chosen": "a"}, r"needs 'rejected' \(or 'rejected_response'\): one"),
        ({"prompt": "p", "chosen": {"role": "user"}, "rejected": "b"}, "needs 'chosen'"),
        ({"prompt": [{"role": "x"}], "chosen": "a", "rejected": "b"}, "role 'x' is not one of"),
    ],
)
def test_a_preference_row_that_lacks_something_is_named(tmp_path, row, words):
    with pytest.raises(InvalidRow, match=f"training/a.jsonl line 1.*{words}"):
        read(tmp_path, json.dumps(row), reader=RowReader(preferences=True))


def test_an_answer_that_is_null_is_taken_from_its_other_name(tmp_path):
    line = json.dumps({"prompt": "x", "chosen": None, "chosen_response": "a", "rejected": "b"})
    (row,) = read(tmp_path, line, reader=RowReader(preferences=True))
    assert row.chosen.messages[-1] == {"role": "assistant", "content": "a"}
    assert row.rejected.messages[-1] == {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ('{"messages": ' + "1" * 5000 + "}", "4300 digits"),
        ('{"messages": [{"role": ["user"], "content": "a"}]}', r"role \['user'\] is not one of"),
    ],
    ids=["lists in lists", "a number too long", "a role that is a list"],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line, words):
    with pytest.raises(InvalidRow, match=rf"training/a.jsonl line 2.*{words}"):
        read(tmp_path, json.dumps(call_row(1)), line)
