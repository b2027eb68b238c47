"""Thompson sampling against scipy's Beta distribution, and against Eq. 8 in a world whose best pair is known."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    Snapshot,
    fold_shard,
    for_pairs,
    initial_snapshot,
    snapshot_of,
)
from star_pipeline.core.equations.sampling import SamplingRules, plan_shard
from star_pipeline.core.equations.thompson import CELLS, Tally, add, best_first, chances, handicaps, quality, weight
from star_pipeline.core.records import CompositeScore, Neighbour, Pair, Seed
from star_pipeline_tests.core.equations.test_evolution import PAIRS, shard

RULES = EvolutionRules(0.0, 0.0, "thompson")
TALLIES = st.integers(0, 300).flatmap(
    lambda draws: st.floats(0, 1).map(lambda share: Tally(draws, draws * share, draws * share, draws * 0.01))
)
KNOWN = st.dictionaries(st.sampled_from("abcdef"), TALLIES, min_size=2)


def sampling(pairs, count, base=("keep+z",), memory=0, run=0):
    return SamplingRules(
        tuple(Pair.parse(pair) for pair in pairs),
        tuple(Pair.parse(p) for p in base),
        False,
        count,
        memory,
        "similarity",
        run,
    )


def seeds(count, name="s"):
    return [Seed(f"{name}{n}", "f", n, None, (), "i", "r") for n in range(count)]


@example(Tally(141, 141.0, 141.0, 1.41, 0.0), 2.2250738585e-313)  # beside chances that are no normal numbers any more
@given(TALLIES, st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_quantile_of_the_beta_distribution(tally, u):
    beta = stats.beta(1 + tally.reward, 1 + tally.draws - tally.reward)
    assert beta.cdf(quality(tally, u) - 1 / CELLS) - 1e-3 <= u <= beta.cdf(quality(tally, u) + 1 / CELLS) + 1e-3


@settings(max_examples=25)
@given(KNOWN, st.floats(0, 0.1))
def test_chances_sum_to_one_keep_the_floor_and_are_those_of_the_highest_of_independent_draws(known, floor):
    found = chances(known, floor)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
    assert min(found.values()) >= floor - 1e-9
    names, draws = sorted(known), np.random.default_rng(0)
    assert weight(known) == pytest.approx(1, rel=0.2)  # sums of π and its square that 0 and 1 give
    c = weight(known)
    drawn = [draws.beta(1 + c * known[n].reward, 1 + c * (known[n].draws - known[n].reward), 20_000) for n in names]
    best = np.bincount(np.argmax(drawn, axis=0), minlength=len(names)) / 20_000
    assert [found[n] for n in names] == pytest.approx(list((1 - len(names) * floor) * best + floor), abs=0.02)


def test_a_draw_counts_as_many_of_0_or_1_as_it_varies_less():
    values = {pair: np.random.default_rng(n).beta(2, 20, 4000) * (1 + n / 10) for n, pair in enumerate("abc")}
    known = {pair: Tally(4000, float(v.sum()), float((v * v).sum())) for pair, v in values.items()}
    expected = np.mean([v.mean() * (1 - v.mean()) for v in values.values()]) / np.mean(
        [v.var() for v in values.values()]
    )
    assert weight(known) == pytest.approx(expected, rel=0.03)
    assert weight(known) > 10
    coins = {"a": Tally(1000, 300.0, 300.0), "b": Tally(500, 400.0, 400.0)}
    assert weight(coins) == pytest.approx(1, rel=0.01)
    assert weight({"a": Tally(3, 0.6, 0.12), "b": Tally()}) < 1.3  # three alike are no proof
    assert weight({"a": Tally(), "b": Tally(50)}) == 1


@given(KNOWN, st.randoms(use_true_random=False))
def test_the_order_of_pairs_says_nothing(known, shuffle):
    mixed = list(known.items())
    shuffle.shuffle(mixed)
    numbers = {pair: shuffle.random() for pair in known}
    assert chances(dict(mixed)) == chances(known)
    assert best_first(dict(mixed), dict(sorted(numbers.items(), reverse=True))) == best_first(known, numbers)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_probability_is_how_often_a_pair_is_drawn_first(floor):
    tallies = {"keep+a": Tally(20, 12.0, 12.0), "keep+b": Tally(30, 15.0, 15.0), "keep+c": Tally(5, 1.0, 1.0)}
    snapshot = Snapshot("x", chances(tallies, floor), tallies, floor)
    plan = plan_shard(seeds(4000), snapshot, [[]] * 4000, sampling(tallies, 2))
    first = [row.pair_id for row in plan if row.slot == 1]
    for pair, p in snapshot.probabilities.items():
        assert first.count(pair) / 4000 == pytest.approx(p, abs=0.025)
    assert all(row.probability == snapshot.probabilities[row.pair_id] for row in plan if row.origin != "base")
    assert plan == plan_shard(seeds(4000), snapshot, [[]] * 4000, sampling(tallies, 2))


def test_what_is_drawn_from_memory_or_called_anyway_is_not_drawn_again():
    tallies = {f"keep+{name}": Tally(10, float(n)) for n, name in enumerate("abcd")}
    snapshot = Snapshot("x", chances(tallies), tallies)
    near = [[Neighbour("n", "keep+b", 0.9)]] * 50
    for rows in (plan_shard(seeds(50), snapshot, near, sampling(tallies, 2, ("keep+a",), 1)),):
        drawn = [(row.pair_id, row.origin) for row in rows if row.origin != "base"]
        assert set(drawn[::2]) == {("keep+b", "memory")}
        assert {pair for pair, _ in drawn[1::2]} <= {"keep+c", "keep+d"}


def test_the_first_plan_draws_all_alike_and_a_fold_adds_up_what_was_earned():
    before = initial_snapshot(PAIRS)
    of = shard([[("a+a", 1.0), ("b+b", None)], [("a+a", 0.25)]])
    rows = fold_shard(before, of, RULES)
    assert [(row.draws_total, row.reward_total, row.n_sampled, row.reward) for row in rows] == [
        (2, 1.25, 2, 1.25), (1, 0.0, 1, 0.0), (0, 0.0, 0, 0.0),
    ]  # fmt: skip
    again = fold_shard(snapshot_of(rows), of, RULES)
    assert [(row.draws_total, row.reward_total) for row in again] == [(4, 2.5), (2, 0.0), (0, 0.0)]
    assert [row.probability for row in again] == list(chances(snapshot_of(again).tallies).values())
    assert (again[0].parent_snapshot_id, again == fold_shard(snapshot_of(rows), of, RULES)) == (
        rows[0].snapshot_id,
        True,
    )
    assert (
        len(
            {
                rows[0].snapshot_id,
                again[0].snapshot_id,
                fold_shard(before, of, replace(RULES, floor=0.1))[0].snapshot_id,
            }
        )
        == 3
    )


def test_a_new_pair_is_one_of_which_nothing_is_known_and_a_removed_one_is_forgotten():
    rows = fold_shard(initial_snapshot(PAIRS), shard([[("a+a", 1.0), ("b+b", 0.0)]] * 20), RULES)
    changed = for_pairs(snapshot_of(rows), ("a+a", "d+d"))
    assert changed.tallies == {"a+a": Tally(20, 20.0, 20.0), "d+d": Tally()}
    assert changed.probabilities == chances(changed.tallies)
    assert changed.snapshot_id != rows[0].snapshot_id
    assert for_pairs(snapshot_of(rows), PAIRS[::-1]) == snapshot_of(rows)


def test_costs_are_taken_off_by_either_method():
    of = shard([[("a+a", 1.0), ("b+b", 1.0)]] * 30)
    costs = {row.candidate_id: 0.02 if row.pair_id == "a+a" else 0.001 for row in of.plan}
    of = replace(of, costs=costs)
    thompson = fold_shard(initial_snapshot(PAIRS), of, replace(RULES, cost_weight=10))
    known = snapshot_of(thompson).tallies
    assert [round(known[pair].handicap, 9) for pair in PAIRS] == [0.2, 0.01, 0.105]
    assert known["a+a"].cost_usd == pytest.approx(0.6)
    assert thompson[1].probability > 5 * thompson[0].probability
    eq8 = fold_shard(initial_snapshot(PAIRS), of, EvolutionRules(0.05, 0.0, "eq8", 10))
    p = dict.fromkeys(PAIRS, 1 / 3)
    for _ in range(30):
        p = {"a+a": p["a+a"] + 0.05 * (1 - 0.2), "b+b": p["b+b"] + 0.05 * (1 - 0.01), "c+c": p["c+c"]}
        p = {pair: value / sum(p.values()) for pair, value in p.items()}
    assert {row.pair_id: row.probability for row in eq8} == pytest.approx(p)
    lost = fold_shard(
        initial_snapshot(PAIRS), replace(of, costs=dict.fromkeys(costs, 9.0)), EvolutionRules(0.5, 0.0, "eq8", 10)
    )
    assert [row.probability for row in lost] == [0.0, 0.0, 1.0]


@given(st.lists(TALLIES, min_size=3, max_size=3), st.floats(0, 100))
def test_added_up_in_any_parts_is_the_same_and_never_drawn_pairs_cost_the_mean(parts, weight):
    one, two, three = parts
    left, right = add(add(one, two), three), add(one, add(two, three))
    assert (left.draws, left.reward) == (right.draws, pytest.approx(right.reward))
    priced = handicaps({"a": left, "b": Tally()}, weight)
    assert priced["b"] == pytest.approx(priced["a"] if left.draws else 0.0)


def test_thompson_finds_the_best_pair_sooner_than_eq_8_as_it_comes():
    names = [f"keep+{name}" for name in "abcdefghij"]

    def share_of_best(world, rules):
        chance = random.Random(world)
        worth = dict(
            zip(names, chance.sample([0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.7], 10), strict=True)
        )
        snapshots, drawn = [initial_snapshot(names)], []
        for number in range(12):
            some = seeds(40, f"{world}-{number}-")
            lagged = snapshots[max(0, number - 1)]
            plan = [
                row
                for row in plan_shard(some, lagged, [[]] * 40, sampling(names, 2, run=world))
                if row.origin != "base"
            ]
            scores = [
                CompositeScore(row.candidate_id, row.seed_id, row.slot, row.pair_id, None, None, None,
                               float(chance.random() < worth[row.pair_id]), None, False, None)
                for row in plan
            ]  # fmt: skip
            of = shard([])
            of = replace(of, shard=f"{number}", seeds=some, plan=plan, scores=scores)
            snapshots.append(snapshot_of(fold_shard(snapshots[-1], of, rules)))
            drawn += [row.pair_id for row in plan]
        return drawn.count(max(worth, key=worth.__getitem__)) / (len(drawn) / 2)

    found = [(share_of_best(world, RULES), share_of_best(world, EvolutionRules(0.05, 0.0))) for world in range(8)]
    assert np.mean([thompson - eq8 for thompson, eq8 in found]) > 0.1
    assert sum(thompson > eq8 for thompson, eq8 in found) >= 7
