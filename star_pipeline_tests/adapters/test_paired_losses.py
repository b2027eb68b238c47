"""Losses are told as soon as both passes of a sample are there, in whatever order the passes come."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.scoring.paired_losses import PairedLosses
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass


def passes(samples):
    """Samples of few kinds, so that passes are shared; 0 has nothing to score."""
    made = []
    for prompt, response in samples:
        scored = response
        given = ForwardPass(np.array([9, prompt, *range(response)], dtype=np.int32), scored)
        made.append((given, ForwardPass(np.array([9, *range(response)], dtype=np.int32), scored)))
    return made


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8), st.randoms(use_true_random=False))
def test_each_sample_is_told_once_and_as_it_will_be(samples, draw):
    told = {}
    found = PairedLosses(passes(samples), lambda number, loss: told.setdefault(number, []).append(loss))
    order = list(range(len(found.passes)))
    draw.shuffle(order)
    assert len({item.key for item in found.passes}) == len(order)
    for number in order:
        assert len(told) < len(samples)
        found.done(number, number / 7)
    for number, loss in enumerate(found.all()):
        if loss.n_tokens:
            assert told[number] == [loss]
            assert math.isfinite(loss.nll_given + loss.nll_alone)
        else:
            assert number not in told
            assert math.isnan(loss.nll_given)
