"""Eq. 4 by hand, and what becomes of candidates that cannot be scored."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.fakes import HashScorer
from star_pipeline.core.equations.ifd import gap, ifd, score_samples
from star_pipeline.core.ports import ModelFit, ResponseLoss, ScoringSample

LOSS = st.floats(0, 50)


def test_ifd_is_the_ratio_of_perplexities_by_hand():
    # token probabilities given the instruction: 1/2, 1/4; alone: 1/4, 1/16. PPL = (product) ** (-1/n)
    perplexity_given = (1 / 2 * 1 / 4) ** (-1 / 2)
    perplexity_alone = (1 / 4 * 1 / 16) ** (-1 / 2)
    nll_given = (math.log(2) + math.log(4)) / 2
    nll_alone = (math.log(4) + math.log(16)) / 2
    assert ifd(nll_given, nll_alone) == pytest.approx(perplexity_given / perplexity_alone, rel=1e-12)
    assert ifd(nll_given, nll_alone) != pytest.approx(nll_given / nll_alone)


@given(LOSS, LOSS)
def test_ifd_is_below_one_exactly_where_the_instruction_helps(given_loss, alone_loss):
    value = ifd(given_loss, alone_loss)
    assert value == pytest.approx(math.exp(given_loss) / math.exp(alone_loss), rel=1e-9)
    if given_loss < alone_loss:
        assert value <= 1


def test_the_gap_is_small_minus_large():
    assert gap(0.9, 0.6) == pytest.approx(0.3)


def test_an_overflowing_ratio_is_infinite_and_gets_a_status_instead_of_a_number():
    assert ifd(1000.0, 0.0) == math.inf

    class Wild(HashScorer):
        def losses(self, samples, kept_chars, heard=None, groups=None):
            return [ResponseLoss(3, math.nan, 1.0) for _ in samples]

    [row] = score_samples([ScoringSample(None, (), "i", "r")], lambda: Wild("s"), lambda: HashScorer("l"))
    assert (row.status, row.ifd_small, row.gap) == ("not_finite", None, None)


def test_every_sample_gets_a_row_in_its_place_and_none_is_no_candidate():
    samples = [None, ScoringSample(None, (), "ask", "an answer"), ScoringSample(None, (), "ask", "")]
    rows = score_samples(samples, lambda: HashScorer("s"), lambda: HashScorer("l"))
    assert [row.status for row in rows] == ["no_candidate", "ok", "empty_response"]
    assert rows[0].gap is None
    assert rows[2].ifd_small is None
    assert rows[1].gap == pytest.approx(rows[1].ifd_small - rows[1].ifd_large)
    assert rows[1].ifd_small == pytest.approx(math.exp(rows[1].nll_given_small - rows[1].nll_alone_small))


def test_where_the_models_cut_at_different_places_both_score_the_shorter_text():
    seen = {}

    class Cutter(HashScorer):
        def __init__(self, name, keep):
            super().__init__(name)
            self.name, self.keep = name, keep

        def fit(self, samples):
            return [ModelFit("ok", self.keep) for _ in samples]

        def losses(self, samples, kept_chars, heard=None, groups=None):
            seen[self.name] = list(kept_chars)
            return super().losses(samples, kept_chars)

    [row] = score_samples([ScoringSample(None, (), "i", "0123456789")], lambda: Cutter("s", 7), lambda: Cutter("l", 4))
    assert seen == {"s": [4], "l": [4]}
    assert row.truncated


def test_a_prompt_too_long_for_one_model_scores_under_neither():
    class Full(HashScorer):
        def fit(self, samples):
            return [ModelFit("prompt_too_long", 0) for _ in samples]

    [row] = score_samples([ScoringSample(None, (), "i", "r")], lambda: HashScorer("s"), lambda: Full("l"))
    assert (row.status, row.ifd_small, row.n_tokens_small) == ("prompt_too_long", None, None)
