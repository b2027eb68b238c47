"""Losses are told as soon as both passes of a sample are there, in whatever order the passes come."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.scoring.paired_losses import GroupedLosses, PairedLosses
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


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=4), max_size=4),
    st.randoms(use_true_random=False),
)
def test_groups_ask_and_tell_what_each_would_alone(groups, draw):
    alone = [PairedLosses(passes(samples)) for samples in groups]
    told = {}
    every = [sample for samples in groups for sample in samples]
    found = GroupedLosses(passes(every), told.__setitem__, groups=[len(samples) for samples in groups])
    assert [item.key for item in found.passes] == [item.key for one in alone for item in one.passes]
    assert [[item.key for item in some] for _, some in found.groups] == [[p.key for p in one.passes] for one in alone]
    assert [found.passes[begin : begin + len(some)] for begin, some in found.groups] == [
        some for _, some in found.groups
    ]
    order = list(range(len(found.passes)))
    draw.shuffle(order)
    for number in order:
        found.done(number, number / 7)
    for one, (begin, some) in zip(alone, found.groups, strict=True):
        for number in range(len(some)):
            one.done(number, (begin + number) / 7)
    assert [str(loss) for loss in found.all()] == [str(loss) for one in alone for loss in one.all()]
    assert {number: str(found.all()[number]) for number in told} == {number: str(loss) for number, loss in told.items()}
