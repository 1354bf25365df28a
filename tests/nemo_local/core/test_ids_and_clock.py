"""Ids and times in the platform's own form."""

import re

import pytest

from nemo_local.core.clock import parse_timestamp, timestamp, utc_now
from nemo_local.core.ids import new_id


def test_an_id_is_a_prefix_and_a_base58_uuid():
    ids = {new_id("cust") for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"cust-[1-9A-HJ-NP-Za-km-z]{20,22}", one) for one in ids)


@pytest.mark.parametrize(
    "text", ["2025-06-20T03:58:16.182000", "2025-06-20T03:58:16.182Z", "2025-06-20T05:58:16.182+02"]
)
def test_a_moment_is_naive_utc_whatever_its_offset(text):
    assert timestamp(parse_timestamp(text)) == "2025-06-20T03:58:16.182000"


def test_now_has_no_offset():
    assert utc_now().tzinfo is None and timestamp(utc_now())[-7] == "."
