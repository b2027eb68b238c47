"""Eq. 3: what is drawn, how often, and that a rerun draws the same."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.evolution import Snapshot
from star_pipeline.core.equations.sampling import SamplingRules, draw, memory_weights, plan_seed, plan_shard
from star_pipeline.core.records import SEED, Neighbour, Pair, Seed

PAIRS = tuple(Pair("keep", name) for name in "abcde")
SNAPSHOT = Snapshot("snap", {f"keep+{name}": p for name, p in zip("abcde", (0.5, 0.2, 0.15, 0.1, 0.05), strict=True)})


def rules(**changes):
    given = {
        "sampled": PAIRS,
        "base": (Pair("keep", "z"),),
        "include_seed": True,
        "pairs_per_seed": 3,
        "from_memory": 1,
        "weighting": "similarity",
        "run_seed": 0,
    }
    return SamplingRules(**{**given, **changes})


def seed(name):
    return Seed(name, "f", 1, None, (), "i", "r")


def test_slots_begin_with_the_reference_then_seed_then_memory_then_explored():
    plan = plan_seed(seed("s"), SNAPSHOT, [Neighbour("n", "keep+e", 0.9)], rules())
    assert [row.origin for row in plan] == ["base", "seed", "memory", "explore", "explore"]
    assert [row.slot for row in plan] == [0, 1, 2, 3, 4]
    assert [row.pair_id for row in plan[:3]] == ["keep+z", "seed", "keep+e"]
    assert plan[2].probability == 0.05
    assert plan[0].probability is None
    assert plan[2].neighbour_seed_ids == ("n",)


@given(
    st.integers(0, 6), st.integers(0, 6), st.lists(st.sampled_from("abcdez"), max_size=6), st.text("xyz", max_size=4)
)
def test_always_distinct_pairs_as_many_as_asked_or_there_are_and_at_most_l_from_memory(m, extra, near, name):
    from_memory = min(extra, m)
    neighbours = [Neighbour(str(place), f"keep+{pair}", 0.5) for place, pair in enumerate(near)]
    plan = plan_seed(seed(name), SNAPSHOT, neighbours, rules(pairs_per_seed=m, from_memory=from_memory))
    drawn = [row for row in plan if row.origin in ("memory", "explore")]
    assert len({row.pair_id for row in plan}) == len(plan)
    assert len(drawn) == min(m, len(PAIRS))
    remembered = [row.pair_id for row in drawn if row.origin == "memory"]
    pool = {f"keep+{pair}" for pair in near} - {"keep+z"}
    assert len(remembered) == min(from_memory, len(pool))
    assert set(remembered) <= pool


def test_a_base_pair_that_is_also_sampled_is_not_drawn_again():
    plan = plan_seed(
        seed("s"), SNAPSHOT, [Neighbour("n", "keep+a", 1.0)], rules(base=(Pair("keep", "a"),), pairs_per_seed=5)
    )
    assert Counter(row.pair_id for row in plan)["keep+a"] == 1
    assert [row.origin for row in plan if row.pair_id == "keep+a"] == ["base"]


def test_the_seed_can_be_the_reference():
    plan = plan_seed(seed("s"), SNAPSHOT, [], rules(base=(SEED,)))
    assert [(row.pair_id, row.origin) for row in plan[:1]] == [("seed", "base")]
    assert sum(row.pair_id == "seed" for row in plan) == 1


def test_the_draw_is_a_pure_function_of_run_seed_seed_snapshot_and_neighbours():
    seeds = [seed(f"s{number}") for number in range(40)]
    once = plan_shard(seeds, SNAPSHOT, [[]] * 40, rules())
    assert plan_shard(seeds, SNAPSHOT, [[]] * 40, rules()) == once
    assert plan_shard(seeds[5:6], SNAPSHOT, [[]], rules()) == [row for row in once if row.seed_id == "s5"]
    assert plan_shard(seeds, SNAPSHOT, [[]] * 40, rules(run_seed=1)) != once
    assert plan_shard(seeds, Snapshot("other", SNAPSHOT.probabilities), [[]] * 40, rules()) != once


@given(
    st.permutations(PAIRS), st.permutations(list(SNAPSHOT.probabilities)), st.text("xyz", max_size=4), st.integers(0, 5)
)
def test_the_order_of_pairs_in_a_configuration_or_a_table_is_no_part_of_the_draw(listed, stored, name, count):
    near = [Neighbour(str(place), f"keep+{pair}", 0.1 * place) for place, pair in enumerate("cabz")]
    shuffled = Snapshot("snap", {pair_id: SNAPSHOT.probabilities[pair_id] for pair_id in stored})
    expected = plan_seed(seed(name), SNAPSHOT, near, rules(pairs_per_seed=count, from_memory=min(count, 2)))
    asked = rules(sampled=tuple(listed), pairs_per_seed=count, from_memory=min(count, 2))
    assert plan_seed(seed(name), shuffled, near, asked) == expected


@given(st.dictionaries(st.text("abcde", min_size=1, max_size=3), st.floats(0, 1)), st.randoms(), st.integers(0, 4))
def test_the_order_of_the_weights_is_no_part_of_a_draw(weights, shuffle, count):
    keys = list(weights)
    shuffle.shuffle(keys)
    assert draw({key: weights[key] for key in keys}, count, "s") == draw(weights, count, "s")


def test_memory_weights_by_hand():
    near = [
        Neighbour("1", "keep+a", 0.8),
        Neighbour("2", "keep+b", 0.5),
        Neighbour("3", "keep+a", 0.2),
        Neighbour("4", "keep+c", -0.3),
    ]
    p = SNAPSHOT.probabilities
    assert memory_weights(near, p, "similarity") == pytest.approx(
        {"keep+a": 0.5 * 1.0, "keep+b": 0.2 * 0.5, "keep+c": 0.0}
    )
    assert memory_weights(near, p, "probability") == {"keep+a": 0.5, "keep+b": 0.2, "keep+c": 0.15}
    assert memory_weights([Neighbour("1", "gone+pair", 1.0)], p, "similarity") == {}


def test_first_draws_follow_the_weights():
    weights = {"a": 0.6, "b": 0.3, "c": 0.1}
    first = Counter(draw(weights, 1, "stream", number)[0] for number in range(20_000))
    for key, weight in weights.items():
        # four standard errors of a binomial share
        assert first[key] / 20_000 == pytest.approx(weight, abs=4 * (weight * (1 - weight) / 20_000) ** 0.5)


def test_second_draws_follow_the_weights_left():
    # without replacement: P(second = b) = P(a) * b/(b+c) + P(c) * b/(a+b)
    weights = {"a": 0.6, "b": 0.3, "c": 0.1}
    expected = 0.6 * 0.3 / 0.4 + 0.1 * 0.3 / 0.9
    second = Counter(draw(weights, 2, "other", number)[1] for number in range(20_000))
    assert second["b"] / 20_000 == pytest.approx(expected, abs=0.014)


def test_a_seed_draws_alike_from_all_snapshots_with_the_same_numbers():
    # so that another configuration's draws differ only where its probabilities do
    seeds = [seed(f"s{n}") for n in range(50)]
    other = Snapshot("another name", SNAPSHOT.probabilities)
    one, two = (
        [(row.seed_id, row.pair_id) for row in plan_shard(seeds, snapshot, [[]] * 50, rules())]
        for snapshot in (SNAPSHOT, other)
    )
    assert one == two


def test_weight_zero_is_never_drawn_from_memory_but_explored_where_nothing_else_is_left():
    assert draw({"a": 0.0, "b": 1.0}, 2, "s") == ["b"]
    dead = Snapshot("dead", dict.fromkeys(SNAPSHOT.probabilities, 0.0))
    assert len(plan_seed(seed("s"), dead, [], rules())) == 5


def test_like_instructions_draw_their_pair_more():
    near = [Neighbour("n", "keep+e", 0.9)]
    with_memory = plan_shard([seed(f"s{n}") for n in range(200)], SNAPSHOT, [near] * 200, rules())
    without = plan_shard([seed(f"s{n}") for n in range(200)], SNAPSHOT, [[]] * 200, rules())
    count = lambda plan: sum(row.pair_id == "keep+e" for row in plan)  # noqa: E731
    assert count(with_memory) == 200
    assert count(without) < 100
