"""Which parts a shard makes, and how numbers are listed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import UsageError
from batchgen.state.shards.shard import Shard, parse_shard, ranges, short_ranges


@given(count=st.integers(1, 40), parts=st.integers(0, 200))
def test_the_shards_share_all_parts(count: int, parts: int) -> None:
    shares = [list(parse_shard(f"{n}/{count}").own(parts)) for n in range(count)]
    assert sorted(part for share in shares for part in share) == list(range(parts))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_worker_that_claims_has_no_share_of_its_own() -> None:
    assert parse_shard("any").claims
    assert list(parse_shard("any").own(3)) == [0, 1, 2]
    assert str(parse_shard("any")) == "any"
    assert str(Shard(3, 16)) == "3/16"


@pytest.mark.parametrize(
    "text", ["", "3", "3/", "/4", "-1/4", "4/4", "5/4", "0/0", "a/b", "1/4/2", "ANY", "1/1000000"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)


def test_shards_are_numbered_from_zero() -> None:
    with pytest.raises(UsageError, match="numbered from 0 to 3"):
        parse_shard("4/4")


@given(st.sets(st.integers(0, 60)))
def test_ranges_list_each_number_once(numbers: set[int]) -> None:
    listed: list[int] = []
    for one in filter(None, ranges(numbers).split(", ")):
        first, _, last = one.partition("-")
        listed += range(int(first), int(last or first) + 1)
    assert listed == sorted(numbers)


def test_many_ranges_are_cut() -> None:
    assert short_ranges([1, 2, 3, 7]) == "1-3, 7"
    assert short_ranges(range(0, 40, 2), most=3) == "0, 2, 4 and 17 more ranges"
