"""Each executor of attention over segments gives what torch gives for every branch by itself."""

import itertools

import numpy as np
import pytest
import torch

from star_pipeline.adapters.scoring import attention
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, forest


def varlen(q, k, v, query_borders, key_borders, most_queries, most_keys, *, scale, window_size, enable_gqa):
    """What torch says of ``varlen_attn``, whose kernel needs a GPU (test_cuda has it): the last query of each sequence sees its last key,
    each before it one less, and of those only ``window_size[0]`` to the left."""
    assert (q.shape[1] != k.shape[1]) == enable_gqa
    assert window_size[1] == 0
    out = torch.empty_like(q)
    for queries, keys in zip(
        *(itertools.pairwise(each.tolist()) for each in (query_borders, key_borders)), strict=True
    ):
        lengths = queries[1] - queries[0], keys[1] - keys[0]
        assert lengths[0] <= most_queries
        assert lengths[1] <= most_keys
        at = torch.arange(lengths[0])[:, None] + lengths[1] - lengths[0]
        seen = (torch.arange(lengths[1]) <= at) & (
            (window_size[0] < 0) | (torch.arange(lengths[1]) >= at - window_size[0])
        )
        part = [each[slice(*where)].transpose(0, 1)[None] for each, where in ((q, queries), (k, keys), (v, keys))]
        attended = torch.nn.functional.scaled_dot_product_attention(*part, seen, scale=scale, enable_gqa=enable_gqa)
        out[slice(*queries)] = attended[0].transpose(0, 1)
    return out


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("shared_heads", [4, 2])
@pytest.mark.parametrize("execute", [attention._by_segment, attention._by_rows, attention._by_paths])
def test_every_branch_is_attended_by_itself(execute, shared_heads, window, monkeypatch):
    monkeypatch.setattr(attention, "_varlen", lambda: (varlen, {"enable_gqa": False}))
    draw = np.random.default_rng(0)
    stem = draw.integers(0, 9, 30).astype(np.int32)
    passes = [ForwardPass(np.concatenate([stem, draw.integers(0, 9, n).astype(np.int32)]), n) for n in (5, 40, 300)]
    batch = forest([*passes, ForwardPass(stem[:20], 3)], range(4))
    generator = torch.Generator().manual_seed(1)
    total = batch.tokens.shape[1]
    query = torch.randn(1, 4, total, 8, generator=generator)
    key, value = (torch.randn(1, shared_heads, total, 8, generator=generator) for _ in range(2))
    with attention.over(batch, "cpu") as layout:
        found = execute(layout, query, key, value, 0.3, window)
    for segment in batch.segments:
        path = torch.cat([torch.arange(*span) for span in segment.spans])
        length = len(path)
        ahead = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        seen = (ahead <= 0) & (ahead > -window if window else torch.ones(length, length, dtype=torch.bool))
        k, v = (t[:, :, path].repeat_interleave(4 // shared_heads, 1) for t in (key, value))
        expected = torch.nn.functional.scaled_dot_product_attention(query[:, :, path], k, v, seen, scale=0.3)
        own = length - (segment.end - segment.start)
        torch.testing.assert_close(found[0, segment.start : segment.end], expected[0].transpose(0, 1)[own:])


def test_what_it_does_not_know_is_refused():
    x = torch.zeros(1, 1, 4, 8)
    for options in ({"softcap": 3.0}, {"attention_mask": torch.zeros(1, 1, 4, 4)}, {"dropout": 0.1}):
        with pytest.raises(attention.NotSupported):
            attention.tree_attention(None, x, x, x, **{"attention_mask": None, **options})
