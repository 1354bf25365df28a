import random

from nemo_local.customizer.batches import LengthBuckets

LENGTHS = [random.Random(0).randint(20, 300) for _ in range(1003)]


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
