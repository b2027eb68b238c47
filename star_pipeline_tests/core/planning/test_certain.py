"""What may be asked before a plan is drawn is in every plan."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.evolution import Snapshot
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.planning.certain import certain_rewriters, certain_rows, certainly_judged
from star_pipeline.core.records import SEED, IfdScore, Pair, Seed

AGENTS = ("a", "b", "c")
PAIRS = [Pair(j, k) for j in ("keep", *AGENTS) for k in AGENTS]
SEEDS = [Seed(f"s{n}", "f", n, None, (), f"question {n}", "answer") for n in range(3)]


@st.composite
def drawings(draw):
    """Rules, and a snapshot of their pairs."""
    sampled = draw(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=8, unique=True))
    base = draw(st.lists(st.sampled_from([*PAIRS, SEED]), min_size=1, max_size=2, unique=True))
    rules = SamplingRules(
        tuple(sampled),
        tuple(base),
        draw(st.booleans()),
        draw(st.integers(0, 6)),
        0,
        "similarity",
        draw(st.integers(0, 99)),
    )
    weights = {pair.pair_id: draw(st.floats(1e-9, 1.0)) for pair in sampled}
    return rules, Snapshot("x", {name: weights[name] / sum(weights.values()) for name in sorted(weights)})


@given(drawings())
def test_what_is_certain_is_in_every_plan(drawn):
    rules, snapshot = drawn
    plan = plan_shard(SEEDS, snapshot, [[] for _ in SEEDS], rules)
    planned = {(row.seed_id, row.pair_id) for row in plan}
    certain = {(row.seed_id, row.pair_id) for row in certain_rows(SEEDS, rules)}
    assert certain <= planned
    assert certain >= {(seed.seed_id, pair.pair_id) for seed in SEEDS for pair in rules.base}
    for agent in certain_rewriters(rules):
        assert {row.seed_id for row in plan if row.instruction_agent == agent} == {seed.seed_id for seed in SEEDS}


@given(drawings())
def test_where_all_pairs_are_drawn_all_is_certain(drawn):
    rules, snapshot = drawn
    rules = replace(rules, pairs_per_seed=len(rules.sampled), include_seed=False)
    plan = plan_shard(SEEDS, snapshot, [[] for _ in SEEDS], rules)
    asked = {(row.seed_id, row.pair_id) for row in certain_rows(SEEDS, rules)}
    assert asked == {(row.seed_id, row.pair_id) for row in plan}


@pytest.mark.parametrize(
    ("gap", "dtype", "skip", "expected"),
    [
        (0.003, "float32", True, True),
        (0.001, "float32", True, False),  # by other batches it may be nothing
        (0.003, "bfloat16", True, False),
        (0.003, "auto", True, False),  # nobody knows yet
        (0.1, "bfloat16", True, True),
        (-0.1, "bfloat16", False, True),
        (-0.1, "float32", True, False),
        (None, "float32", False, False),
    ],
)
def test_the_judge_is_certain_to_be_asked_where_no_rounding_can_take_the_gap_away(gap, dtype, skip, expected):
    assert certainly_judged(IfdScore("c", "s", "ok", False, gap=gap), dtype, skip) is expected
