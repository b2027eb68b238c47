"""Eq. 8 against exact fractions, and what a change of pairs does."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    FoldInputs,
    Snapshot,
    apply_floor,
    fold_shard,
    for_pairs,
    initial_snapshot,
    reward_seed,
    snapshot_of,
)
from star_pipeline.core.records import CompositeScore, PlanRow, Seed

PAIRS = ("a+a", "b+b", "c+c")


def shard(rewards, origin="explore"):
    """What is folded, from [[(pair, pi), …] a seed]."""
    seeds, plan, scores = [], [], []
    for number, drawn in enumerate(rewards):
        seed = f"s{number}"
        seeds.append(Seed(seed, "f", number, None, (), "i", "r"))
        for slot, (pair, pi) in enumerate(drawn):
            name = f"{seed}-{slot}"
            plan.append(PlanRow(name, seed, slot, pair, "x", "y", origin, 0.1, "snap", (), (), ()))
            scores.append(CompositeScore(name, seed, slot, pair, None, None, None, pi, None, False, None))
    return FoldInputs("000001-x", seeds, plan, scores)


def exact(rewards, rate, floor=Fraction(0)):
    p = {pair: Fraction(1, 3) for pair in PAIRS}
    for drawn in rewards:
        for pair, pi in drawn:
            p[pair] += rate * Fraction(pi or 0)
        total = sum(p.values())
        p = {pair: value / total for pair, value in p.items()}
    return {pair: (1 - 3 * floor) * value + floor for pair, value in p.items()}


def test_one_seed_by_hand():
    # 1/3 + 0.3 * 1, the others 1/3; divided by 1.3
    after = reward_seed(initial_snapshot(PAIRS).probabilities, [("a+a", 1.0)], 0.3)
    assert after["a+a"] == pytest.approx((1 / 3 + 0.3) / 1.3, rel=1e-15)
    assert after["b+b"] == pytest.approx((1 / 3) / 1.3, rel=1e-15)


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(PAIRS), st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])),
            max_size=3,
            unique_by=lambda d: d[0],
        ),
        max_size=12,
    ),
    st.sampled_from([0.0, 0.001, 0.125, 1.0]),
    st.sampled_from([0.0, 0.0625, 0.25]),
)
def test_a_shard_agrees_with_exact_fractions_and_sums_to_one(rewards, rate, floor):
    rows = fold_shard(initial_snapshot(PAIRS), shard(rewards), EvolutionRules(rate, floor))
    expected = exact(rewards, Fraction(rate), Fraction(floor))
    for row in rows:
        assert row.probability == pytest.approx(float(expected[row.pair_id]), rel=1e-12)
        assert row.probability >= floor * (1 - 1e-12)
        drawn = [pi for seed in rewards for pair, pi in seed if pair == row.pair_id]
        assert row.n_sampled == len(drawn)
        assert row.reward == pytest.approx(sum(pi or 0 for pi in drawn))
    assert sum(row.probability for row in rows) == pytest.approx(1, abs=1e-12)


@given(st.permutations(PAIRS), st.permutations((*PAIRS, "d+d")), st.permutations([("a+a", 0.3), ("b+b", 0.7)]))
def test_the_order_of_pairs_is_no_part_of_a_snapshot(pairs, more, earned):
    rules = EvolutionRules(0.1, 0.01)
    rows = fold_shard(initial_snapshot(PAIRS), shard([[("a+a", 0.3), ("b+b", 0.7)]] * 3), rules)
    again = fold_shard(initial_snapshot(pairs), shard([earned] * 3), rules)
    assert [(row.snapshot_id, row.pair_id, row.probability) for row in again] == [
        (row.snapshot_id, row.pair_id, row.probability) for row in rows
    ]
    shuffled = Snapshot("s", {pair: snapshot_of(rows).probabilities[pair] for pair in pairs})
    assert for_pairs(shuffled, more) == for_pairs(Snapshot("s", snapshot_of(rows).probabilities), sorted(more))


def test_base_and_seed_candidates_earn_nothing():
    for origin in ("base", "seed"):
        rows = fold_shard(initial_snapshot(PAIRS), shard([[("a+a", 1.0)]], origin), EvolutionRules(0.5, 0.0))
        assert {row.probability for row in rows} == {1 / 3}
        assert sum(row.n_sampled for row in rows) == 0


def test_the_order_of_seeds_is_that_of_the_shard_not_of_the_plan():
    of, before, rules = shard([[("a+a", 1.0)], [("b+b", 1.0)]]), initial_snapshot(PAIRS), EvolutionRules(0.5, 0.0)
    first = fold_shard(before, of, rules)
    assert fold_shard(before, replace(of, plan=of.plan[::-1], scores=of.scores[::-1]), rules) == first
    other = fold_shard(before, replace(of, seeds=of.seeds[::-1]), rules)
    assert [row.probability for row in other] != [row.probability for row in first]


def test_a_snapshot_is_named_by_its_parent_and_numbers():
    def fold(rate):
        return fold_shard(initial_snapshot(PAIRS), shard([[("a+a", 1.0)]]), EvolutionRules(rate, 0.0))

    assert fold(0.1) == fold(0.1)
    assert snapshot_of(fold(0.1)).snapshot_id != snapshot_of(fold(0.2)).snapshot_id
    assert fold(0.1)[0].parent_snapshot_id == initial_snapshot(PAIRS).snapshot_id


def test_floor_by_hand():
    assert apply_floor({"a": 0.9, "b": 0.1}, 0.2) == pytest.approx({"a": 0.6 * 0.9 + 0.2, "b": 0.6 * 0.1 + 0.2})


def test_the_same_pairs_in_any_order_are_the_same_snapshot():
    snapshot = Snapshot("x", {"a+a": 0.7, "b+b": 0.3})
    assert for_pairs(snapshot, ("b+b", "a+a")).snapshot_id == "x"


def test_a_new_pair_enters_at_one_kth_and_a_removed_share_is_spread_in_proportion():
    snapshot = Snapshot("x", {"a+a": 0.6, "b+b": 0.3, "c+c": 0.1})
    grown = for_pairs(snapshot, ("a+a", "b+b", "c+c", "d+d")).probabilities
    assert grown == pytest.approx({"a+a": 0.45, "b+b": 0.225, "c+c": 0.075, "d+d": 0.25})
    shrunk = for_pairs(snapshot, ("a+a", "b+b"))
    assert shrunk.probabilities == pytest.approx({"a+a": 2 / 3, "b+b": 1 / 3})
    assert shrunk.snapshot_id != "x"


def test_a_pair_whose_share_died_out_does_not_divide_by_zero():
    assert for_pairs(Snapshot("x", {"a+a": 0.0, "b+b": 1.0}), ("a+a", "c+c")).probabilities == {"a+a": 0.5, "c+c": 0.5}
