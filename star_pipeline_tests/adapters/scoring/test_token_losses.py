"""Losses of tokens from hidden states, in tiles as on a processor and in rows as on a GPU, against a computation in float64."""

import pytest
import torch

from star_pipeline.adapters.scoring import token_losses


@pytest.mark.parametrize("compute", [token_losses._in_tiles, token_losses._in_rows])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("count", [1, 70, 1100])
def test_equals_a_computation_in_float64(compute, biased, count):
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn((count, 24), generator=generator) * 3
    weight = torch.randn((1300, 24), generator=generator)
    bias = torch.randn(1300, generator=generator) if biased else None
    targets = torch.randint(0, 1300, (count,), generator=generator)
    logits = torch.nn.functional.linear(hidden.double(), weight.double(), None if bias is None else bias.double())
    exact = torch.logsumexp(logits, -1) - logits[torch.arange(count), targets]
    found = compute(hidden, weight, bias, targets)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=2e-5)
