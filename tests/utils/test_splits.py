"""The four parts have their sizes, share no question, and keep some tools unseen."""

from dataclasses import replace

import pytest

from utils.splits import split_rows, tools_of
from utils.xlam import XlamRow

SIZES = {"train": 60, "validation": 10, "evaluation": 10, "unseen": 8}


def offered(name):
    return {"type": "function", "function": {"name": name, "parameters": {}}}


def rows(count, tools=40):
    return [
        XlamRow(
            id=i,
            query=f"question {i}",
            tools=[offered(f"tool{i % tools}"), offered(f"tool{(i * 7 + 1) % tools}")],
            calls=[{"name": f"tool{i % tools}", "arguments": {}}],
        )
        for i in range(count)
    ]


def parts(splits):
    return [splits.train, splits.validation, splits.evaluation, splits.unseen]


def test_every_part_has_the_size_asked_for():
    splits = split_rows(rows(200), **SIZES, seed=1)
    assert [len(part) for part in parts(splits)] == list(SIZES.values())
    assert splits.why == "200 rows, 88 asked for: every part has its size"


@pytest.mark.parametrize("seed", range(5))
def test_no_row_is_in_two_parts(seed):
    ids = [row.id for part in parts(split_rows(rows(200), **SIZES, seed=seed)) for row in part]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [50, 200])
def test_training_never_sees_an_unseen_tool_not_even_as_an_offer(count, seed):
    splits = split_rows(rows(count), **SIZES, seed=seed)
    called = {row.calls[0]["name"] for row in splits.unseen}
    assert called
    assert not called & tools_of(splits.train + splits.validation + splits.evaluation)


def test_the_same_seed_gives_the_same_parts_and_another_seed_others():
    first, again = (split_rows(rows(200), **SIZES, seed=3) for _ in range(2))
    assert first == again
    assert split_rows(rows(200), **SIZES, seed=4).train != first.train


def test_with_too_few_rows_every_part_shrinks_and_says_so():
    splits = split_rows(rows(44), **SIZES, seed=1)
    assert all(0 < len(part) for part in parts(splits))
    assert len(splits.train) < 60
    assert "parts shrunk to" in splits.why
    assert "repeat" not in splits.why


def test_parts_that_shrink_since_questions_repeat_say_how_many_do():
    assert (
        "; 20 rows repeat the question of" in split_rows(rows(44) + rows(20), **SIZES, seed=1).why
    )


def test_a_repeated_question_stays_on_one_side():
    doubled = [*rows(100), *rows(100)]
    questions = [row.query for part in parts(split_rows(doubled, **SIZES, seed=1)) for row in part]
    assert len(questions) == len(set(questions))


def test_a_question_in_other_letters_or_with_spaces_around_it_is_the_same():
    again = [replace(row, id=row.id + 100, query=f"  {row.query.upper()}\n") for row in rows(100)]
    splits = split_rows([*rows(100), *again], **SIZES, seed=1)
    assert max(row.id for part in parts(splits) for row in part) < 100


@pytest.mark.parametrize("count", [0, 3])
def test_hardly_any_rows_are_refused_with_both_numbers(count):
    with pytest.raises(ValueError, match=f"{count} usable rows are too few for 88"):
        split_rows(rows(count), **SIZES, seed=1)


def in_one_toolbox(*times):
    """Rows that all offer the same tools: the first is called `times[0]` times, and so on."""
    called = [f"tool{n}" for n, count in enumerate(times) for _ in range(count)]
    toolbox = [offered(f"tool{n}") for n in range(len(times))]
    return [
        XlamRow(id=i, query=f"question {i}", tools=toolbox, calls=[{"name": name, "arguments": {}}])
        for i, name in enumerate(called)
    ]


@pytest.mark.parametrize(
    "times",
    [(10,) * 10, (50, 50), (95, 5), (40, 30, 20, 10)],
    ids=["ten tools", "two", "one hardly called", "four"],
)
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_share_one_toolbox_are_split_too(times, seed):
    splits = split_rows(in_one_toolbox(*times), **SIZES, seed=seed)
    assert all(parts(splits))
    called = {row.calls[0]["name"] for row in splits.unseen}
    learnt = splits.train + splits.validation + splits.evaluation
    assert not called & tools_of(learnt)
    assert all(row.calls[0]["name"] in tools_of([row]) for row in learnt)
    assert len(learnt) >= 45


def test_rows_that_offer_an_unseen_tool_stay_away_while_there_are_others():
    found = rows(200)
    splits = split_rows(found, **SIZES, seed=1)
    assert all(row in found for part in parts(splits) for row in part)


def test_every_part_has_its_share_of_rows_that_lost_an_offer():
    found = {row.id: row for row in rows(600, tools=10)}
    sizes = {"train": 600, "validation": 100, "evaluation": 200, "unseen": 60}
    splits = split_rows(list(found.values()), **sizes, seed=1)
    for part in (splits.train, splits.validation, splits.evaluation):
        lost = sum(row != found[row.id] for row in part) / len(part)
        assert 0.05 < lost < 0.3


def test_rows_that_all_call_one_tool_are_refused_by_its_name():
    with pytest.raises(ValueError, match="All 100 usable rows call 'tool0': .* another one"):
        split_rows(in_one_toolbox(100, 0), **SIZES, seed=1)


def test_as_many_rows_as_the_refusal_asks_for_are_enough():
    with pytest.raises(ValueError, match="too few for 88: 10 have .* with 22 of those"):
        split_rows([*rows(10), *rows(10)], **SIZES, seed=1)
    for times in ((21, 1), (11, 11), (2,) * 11):
        assert all(parts(split_rows(in_one_toolbox(*times), **SIZES, seed=1)))
