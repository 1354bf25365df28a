import random

import pytest

from nemo_local.customizer.rows import InvalidRow
from nemo_local.customizer.training.batches import LengthBuckets, read_rows
from tests.nemo_local.customizer.training import TASK

DRAW = random.Random(0)
LENGTHS = [DRAW.randint(20, 300) for _ in range(1003)]


def batches(sampler, size):
    order = list(sampler)
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_every_row_is_drawn_once_and_the_short_batch_comes_last():
    sampler = LengthBuckets(LENGTHS, 16, seed=1)
    drawn = batches(sampler, 16)
    assert sorted(row for batch in drawn for row in batch) == list(range(1003))
    assert len(sampler) == 1003 and len(drawn[-1]) == 1003 % 16


def test_a_batch_holds_rows_of_about_one_length():
    padded = sum(
        len(batch) * max(LENGTHS[row] for row in batch)
        for batch in batches(LengthBuckets(LENGTHS, 16, seed=1), 16)
    )
    assert padded < 1.05 * sum(LENGTHS)


def test_the_order_depends_on_seed_and_epoch_only():
    first, again, other = (LengthBuckets(LENGTHS, 16, seed) for seed in (1, 1, 2))
    assert list(first) == list(again) != list(other)
    first.set_epoch(1)
    assert list(first) != list(again)
    again.set_epoch(1)
    assert list(first) == list(again)


def test_the_order_is_that_of_every_release_so_that_a_job_goes_on_after_an_update():
    sampler = LengthBuckets(LENGTHS, 16, seed=1)
    sampler.set_epoch(2)
    drawn = list(sampler)
    assert drawn[:8] == [970, 974, 840, 994, 469, 830, 253, 760]
    assert drawn[-5:] == [567, 466, 80, 62, 281]


def test_no_epoch_of_a_small_file_has_the_batches_of_another_and_long_rows_are_not_always_last():
    sampler = LengthBuckets(range(101), 8, seed=1)
    epochs = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        epochs.append([frozenset(batch) for batch in batches(sampler, 8)])
    assert not set(epochs[0]) & set().union(*epochs[1:])
    assert min(map(min, (epoch[-1] for epoch in epochs))) < 50


def test_data_without_a_row_is_refused_with_what_was_found_instead(tmp_path):
    for name in ("training/a.jsonl", "notes.txt", ".cache/huggingface/CACHEDIR.TAG"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n")
    found = r"in hf://datasets/ns/d, found notes.txt \(1 bytes\), training/a.jsonl \(1 bytes\)$"
    with pytest.raises(InvalidRow, match=found):
        read_rows(TASK, tmp_path)
