"""What a lag costs before anything is learnt is said in figures, with remedies that do lower it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.intake.catalog import ShardSizes
from star_pipeline.core.planning.unlearnt import unlearnt


def sizes(seeds, shards):
    found = []
    while seeds:
        found.append(min(shards.of(len(found) + 1), seeds))
        seeds -= found[-1]
    return found


def test_a_long_run_is_told_the_figure_alone_and_a_short_one_what_to_do():
    of_many = unlearnt(sizes(16_000, ShardSizes(64)), [False] * 3, 2)
    assert of_many.text == (
        "evolution.lag 2: the first 3 of 250 shards (192 of 16,000 seeds, 1%) are drawn without having learnt from any"
    )
    of_few = unlearnt(sizes(779, ShardSizes(64)), [False] * 3, 2)
    assert of_few.text == (
        "evolution.lag 2: the first 3 of 13 shards (192 of 779 seeds, 25%) are drawn without having learnt from any; for fewer: "
        "sampling.first_shard_size 8, or sampling.shard_size 25, or evolution.lag 0"
    )


def test_without_a_lag_or_once_they_are_drawn_there_is_nothing_to_say():
    assert unlearnt([64] * 5, [False], 0) is None
    assert unlearnt([64] * 5, [True, True, True], 2) is None
    assert unlearnt([64] * 5, [True, True, False], 2).shards == 3
    assert unlearnt([0, 0], [True, False], 1) is None  # all seeds have left the files
    assert unlearnt([], [], 3) is None
    assert unlearnt([5, 3], [False, False], 4).share == 1


@given(st.integers(100, 2_000), st.integers(1, 300), st.integers(1, 9))
def test_each_remedy_that_is_named_lowers_it(seeds, shard, lag):
    found = unlearnt(sizes(seeds, ShardSizes(shard)), [False], lag)
    if named := re.search(r"\.shard_size (\d+)", found.text):
        smaller = int(named[1])
        assert not unlearnt(sizes(seeds, ShardSizes(smaller)), [False], lag).is_much
        assert smaller < shard
    if named := re.search(r"first_shard_size (\d+)", found.text):
        assert unlearnt(sizes(seeds, ShardSizes(shard, int(named[1]), lag)), [False], lag).seeds < found.seeds
    assert found.is_much == found.text.endswith("evolution.lag 0")
