"""The figures of the UI: what they hold is what the records say."""

import random
from collections import Counter

import pytest

from star_pipeline.core.records import AgentSpend, Candidate, IfdScore, JudgeVerdict, PairProbability
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, CANDIDATES, IFD_SCORES, JUDGE_VERDICTS
from star_pipeline.figures import asset_figures


def record(kind, spec, **known):
    return kind(**{**dict.fromkeys(column.name for column in spec.columns), **known})


def score(candidate_id, small, large):
    gap = None if None in (small, large) else small - large
    return record(IfdScore, IFD_SCORES, candidate_id=candidate_id, ifd_small=small, ifd_large=large, gap=gap)


def verdict(number, said):
    return record(JudgeVerdict, JUDGE_VERDICTS, candidate_id=str(number), verdict=said)


def snapshot(place, **probabilities):
    return [
        record(PairProbability, AGENT_PAIR_PROBABILITIES, shard=f"{place:06d}-x", pair_id=pair, probability=now, probability_before=0.5)
        for pair, now in probabilities.items()
    ]  # fmt: skip  # read as a table


def plotted(figure):
    return figure.spec["datasets"]["rows"]


def beside(figure):
    """The texts at the right of the bars, by label."""
    return {row["of"]: row["said"] for rows in figure.spec["datasets"].values() for row in rows if "said" in row}


def test_gaps_are_told_by_pair_with_the_best_median_on_top_and_counts():
    scores = [score("1", 0.5, 0.4), score("2", 0.5, 0.2), score("3", 0.1, 0.3), score("4", None, 0.3)]
    found = asset_figures.gaps(scores, {"1": "keep+a", "2": "keep+a", "3": "b+a", "4": "b+a"})
    assert [(row["pair_id"], row["scored"]) for row in plotted(found)] == [("keep+a", 2), ("b+a", 1)]
    assert [row["median_gap"] for row in plotted(found)] == pytest.approx([0.2, -0.2])
    assert beside(found) == {"keep+a": "2 of 2 above 0", "b+a": "0 of 1 above 0"}
    wide, alone = plotted(found)
    half = 1.959964 * (0.2 / 2**0.5) / 2**0.5
    assert (wide["mean_gap_low"], wide["mean_gap_high"]) == pytest.approx((0.2 - half, 0.2 + half))
    assert (alone["mean_gap_low"], alone["mean_gap_high"]) == (None, None)


def test_of_three_comparisons_no_percentage_is_said_but_how_many_were_reversed_and_how_sure_that_is():
    said = ["better", "inconsistent", "worse", "skipped", "unparsed", *["skipped"] * 2]
    found = asset_figures.verdicts(
        [verdict(number, of) for number, of in enumerate(said)],
        {str(number): "a+b" if number < 5 else "keep+b" for number in range(7)},
    )
    assert beside(found) == {"a+b": "1 of 3 reversed (6% to 79%)", "keep+b": "nothing compared"}
    assert Counter({(row["pair_id"], row["verdict"]): row["rows"] for row in plotted(found)}) == Counter(
        zip(["a+b"] * 5 + ["keep+b"] * 2, said, strict=True)
    )


def test_every_scored_candidate_is_in_one_square_also_where_all_are_the_same():
    numbers = random.Random(0)
    scores = [score(str(n), numbers.uniform(0, 2), numbers.uniform(0, 2)) for n in range(500)] + [score("x", None, 1.0)]
    squares = plotted(asset_figures.ifd(scores))
    assert sum(row["candidates"] for row in squares) == 500
    assert len({(row["small_low"], row["large_low"]) for row in squares}) == len(squares) <= 24 * 24
    [only] = plotted(asset_figures.ifd([score("1", 0.5, 0.5), score("2", 0.5, 0.5)]))
    assert (only["small_low"], only["large_low"], only["candidates"]) == (0.5, 0.5, 2)


def test_probabilities_begin_before_their_first_shard_and_keep_the_shards_places():
    found = asset_figures.probabilities({place: snapshot(place, a=0.5 + place / 100, b=0.4) for place in (3, 4, 6)})
    assert [(row["place"], row["probability"]) for row in plotted(found) if row["pair_id"] == "a"] == [
        (2, 0.5),
        (3, 0.53),
        (4, 0.54),
        (6, 0.56),
    ]
    many = plotted(asset_figures.probabilities({place: snapshot(place, a=0.5) for place in range(21, 221)}))
    assert 30 < len(many) <= 61
    assert many[-1]["place"] == 220


@pytest.mark.parametrize(("usd", "unit", "values"), [(0.5, "USD", [0.5, 1.0]), (0.0, "tokens", [40, 10])])
def test_an_agents_cost_is_in_tokens_where_nothing_has_a_price(usd, unit, values):
    spend = [AgentSpend("a", "respond", 1, 30, 10, usd, 0, 0.0), AgentSpend("b", "judge", 1, 10, 0, 2 * usd, 0, 0.0)]
    found = asset_figures.cost_by_agent(spend)
    assert [row["value"] for row in plotted(found)] == values
    assert f" {unit} paid in all" in found.finding


def test_a_pairs_cost_is_told_in_sent_and_received_where_nothing_has_a_price():
    made = [
        record(Candidate, CANDIDATES, pair_id=pair, prompt_tokens=sent, completion_tokens=7, cost_usd=0.0)
        for pair, sent in (("a+b", 5), ("keep+b", 3), ("a+b", 2))
    ]
    assert {(row["pair_id"], row["part"]): row["value"] for row in plotted(asset_figures.cost_by_pair(made))} == {
        ("a+b", "sent"): 7,
        ("a+b", "received"): 14,
        ("keep+b", "sent"): 3,
        ("keep+b", "received"): 7,
    }
    priced = plotted(
        asset_figures.cost_by_pair(
            [record(Candidate, CANDIDATES, pair_id="a+b", prompt_tokens=1, completion_tokens=1, cost_usd=0.25)]
        )
    )
    assert [(row["part"], row["value"]) for row in priced] == [("USD", 0.25)]


def test_rows_by_domain_have_the_largest_first():
    found = asset_figures.domains(
        {0: "bread", 1: "机器"}, [(1, "best"), (0, "fallback_base"), (0, "best"), (0, "best")]
    )
    assert [(row["label"], row["selection"], row["rows"]) for row in plotted(found)] == [
        ("0: bread", "best", 2),
        ("0: bread", "fallback_base", 1),
        ("1: 机器", "best", 1),
    ]
