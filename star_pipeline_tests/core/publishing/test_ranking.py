"""No pair is called ahead that the intervals do not show to be."""

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.publishing.ranking import LEAST, Standing, by_mean_pi, mean_pi_tells, order


def row(pair_id, mean, half, candidates=100, probability=0.2):
    ends = {"mean_pi_low": None if half is None else mean - half, "mean_pi_high": None if half is None else mean + half}
    return {
        "pair_id": pair_id,
        "mean_pi": mean,
        **ends,
        "candidates": candidates,
        "failed": 0,
        "probability": probability,
    }


def test_a_pair_is_ahead_where_its_interval_lies_above_those_of_all_other_sampled_pairs():
    board = [
        row("seed", 0.9, 0.01, probability=None),
        row("a+a", 0.5, 0.1),
        row("b+b", 0.3, 0.05),
        row("c+c", 0.1, 0.2),
    ]
    found = by_mean_pi(board)
    assert (found.first.pair_id, found.clear) == ("a+a", True)
    assert mean_pi_tells(found).startswith("By mean π a+a is ahead of every other sampled pair")
    found = by_mean_pi([*board, row("d+d", 0.45, 0.01), row("e+e", 0.2, None)])
    assert found.rivals == ("d+d", "e+e")
    assert mean_pi_tells(found) == (
        "By mean π no sampled pair is clearly ahead: the 95% intervals, of 20 candidates or more, do not tell a+a from d+d and e+e."
    )


def test_few_values_have_no_interval_to_rely_on_and_one_pair_has_nobody_to_be_ahead_of():
    assert by_mean_pi([row("a+a", 0.5, 0.0, LEAST - 1), row("b+b", 0.0, 0.0)]).rivals == ("b+b",)
    assert by_mean_pi([row("a+a", 0.5, 0.1), row("b+b", 0.0, 0.0, LEAST - 1)]).rivals == ("b+b",)
    assert by_mean_pi([row("a+a", 0.5, 0.1)]) is None
    assert mean_pi_tells(None) == ""


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=2, max_size=12))
def test_rivals_are_just_the_pairs_whose_interval_is_not_wholly_below(values):
    pairs = [Standing(f"{n:02}", mean, mean - half, mean + half) for n, (mean, half) in enumerate(values)]
    found = order(pairs[::-1])
    assert found.first.centre == max(mean for mean, _ in values)
    for pair in pairs:
        if pair.pair_id != found.first.pair_id:
            assert (pair.pair_id in found.rivals) == (pair.high >= found.first.low)
