import json
from itertools import islice
from random import Random

import pytest

from nemo_local.pocket.text import TextMixture
from nemo_local.pocket.world import (
    NOUNS,
    READING,
    RESERVED_NOUNS,
    dataset_tool,
    draw_request,
    pretraining_tool,
    rows,
)


def test_the_same_seed_gives_the_same_rows_and_another_seed_gives_others():
    assert list(rows(20, seed=3)) == list(rows(20, seed=3))
    assert list(rows(20, seed=3)) != list(rows(20, seed=4))


def test_a_longer_run_begins_with_the_shorter_one():
    assert list(islice(rows(60_000), 50)) == list(rows(50))


def test_rows_have_the_columns_of_xlam_with_tools_and_answers_as_json_strings():
    row = next(rows(1))
    assert list(row) == ["id", "query", "tools", "answers"]
    tools, answers = json.loads(row["tools"]), json.loads(row["answers"])
    assert set(tools[0]) == {"name", "description", "parameters"}
    assert set(answers[0]) == {"name", "arguments"}


def test_every_answer_calls_an_offered_tool_with_its_required_parameters():
    for row in rows(500):
        tools = {tool["name"]: tool["parameters"] for tool in json.loads(row["tools"])}
        for call in json.loads(row["answers"]):
            parameters = tools[call["name"]]
            assert set(call["arguments"]) <= set(parameters)
            required = {
                name
                for name, p in parameters.items()
                if "optional" not in p["type"].lower() and "default" not in p["type"]
            }
            assert required <= set(call["arguments"])


def test_about_half_of_the_rows_hold_one_call():
    single = sum(len(json.loads(row["answers"])) == 1 for row in rows(1000))
    assert 400 < single < 650


@pytest.mark.parametrize(
    "spelling",
    ["str", "int", "float", "bool", "str, optional", "Optional[str]", "List[int]", "Set[str]",
     "List[float]", "List[List[int]]", "Dict[str, float]", "Tuple[float, float]",
     "Union[int, float]", "str, default="],
)  # fmt: skip
def test_the_rows_spell_types_in_every_way_of_xlam(spelling):
    spellings = {
        parameter["type"]
        for row in rows(3000)
        for tool in json.loads(row["tools"])
        for parameter in tool["parameters"].values()
    }
    assert any(known.startswith(spelling) for known in spellings)


def test_one_tool_name_always_means_the_same_tool():
    seen: dict[str, dict] = {}
    for row in rows(2000):
        for tool in json.loads(row["tools"]):
            assert seen.setdefault(tool["name"], tool) == tool


def test_no_tool_of_the_rows_stands_in_the_pretraining_text():
    rng = Random(0)
    published = {dataset_tool(rng).name for _ in range(20_000)}
    pretraining = {pretraining_tool(rng).name for _ in range(20_000)}
    mixture = TextMixture(rng, ["river", "stone"])
    invented = {mixture.invented_tool(rng).name for _ in range(20_000)}
    assert not published & (pretraining | invented)


def test_reserved_nouns_stand_in_rows_and_never_in_the_pretraining_text():
    rng = Random(0)
    assert any(dataset_tool(rng).noun in RESERVED_NOUNS for _ in range(2000))
    assert RESERVED_NOUNS < set(NOUNS)
    for _ in range(2000):
        tools, _, _ = draw_request(rng, pretraining_tool)
        assert not {tool.noun for tool in tools} & RESERVED_NOUNS


@pytest.mark.parametrize(
    "called",
    [
        lambda tool: tool.name == tool.noun.replace(" ", "_"),
        lambda tool: "_" not in tool.name and tool.name != tool.noun,
        lambda tool: "_by_" in tool.name,
        lambda tool: tool.verb in READING,
    ],
    ids=["noun-alone", "camelCase", "by-parameter", "reading-verb"],
)
def test_the_pretraining_text_has_each_kind_of_name_as_often_as_the_rows(called):
    # A base that hardly ever met a name without a verb put one before it.
    rng = Random(1)
    mixture = TextMixture(rng, ["river", "stone"])
    shown = mixture.invented_tool, pretraining_tool
    of_rows = sum(called(dataset_tool(rng)) for _ in range(4000)) / 4000
    of_text = sum(called(rng.choice(shown)(rng)) for _ in range(4000)) / 4000
    assert of_text > 0.9 * of_rows


def test_the_pretraining_text_never_shows_a_tool_call():
    mixture = TextMixture(Random(0), ["alpha", "beta"])
    for _ in range(2000):
        for message in mixture.draw().messages:
            assert "tool_calls" not in message
            assert '"parameters"' not in message["content"]
            assert '"name":' not in message["content"]
