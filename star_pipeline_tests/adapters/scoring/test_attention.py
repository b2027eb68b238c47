"""Both executors of attention over segments give what torch gives for every branch by itself."""

import numpy as np
import pytest
import torch

from star_pipeline.adapters.scoring import attention
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, forest


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("shared_heads", [4, 2])
@pytest.mark.parametrize("execute", [attention._by_segment, attention._by_rows])
def test_every_branch_is_attended_by_itself(execute, shared_heads, window):
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
