import random

from nemo_local.customizer.batches import LengthBuckets

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
    assert drawn[:8] == [828, 687, 131, 935, 499, 360, 89, 721]
    assert drawn[-5:] == [374, 684, 686, 674, 644]
