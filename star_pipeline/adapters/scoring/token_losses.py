"""Log-probabilities of tokens from hidden states, without ever holding the logits of the whole vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from star_pipeline.adapters.scoring.prefix_tree import filled_up

if TYPE_CHECKING:
    from torch import Tensor

_CPU_ROWS, _CPU_TILE = 1024, 2**18
_GPU_ROWS, _GPU_TILE = 2048, 2**25
"""Logits held at once: what a processor's cache takes; what keeps a GPU busy."""


def token_losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """-log softmax(hidden @ weight.T + bias) at ``targets``, in nats, float64 of shape (S,).

    ``hidden`` has shape (S, width), ``weight`` (vocabulary, width), ``bias`` (vocabulary,), ``targets`` (S,). Logits are made in
    tiles of some rows by some columns, the log-sum-exp of each tile in float32, and the tiles' are put together in float64.
    """
    import torch

    on_gpu = hidden.device.type == "cuda"
    rows, tile = (_GPU_ROWS, _GPU_TILE) if on_gpu else (_CPU_ROWS, _CPU_TILE)
    columns = tile // rows
    parts = torch.empty((-(-weight.shape[0] // columns), len(targets)), dtype=torch.float64, device=hidden.device)
    for first in range(0, len(targets), rows):
        chunk = hidden[first : first + rows]
        count = len(chunk)
        chunk = torch.nn.functional.pad(chunk, (0, 0, 0, filled_up(count) - count))
        for number, column in enumerate(range(0, weight.shape[0], columns)):
            some = slice(column, column + columns)
            logits = _logits(chunk, weight[some], None if bias is None else bias[some])
            highest = logits.amax(-1, keepdim=True)
            total = logits.sub_(highest).exp_().sum(-1)
            parts[number, first : first + count] = (total.log_() + highest.squeeze(-1))[:count]
    own = (hidden.double() * weight[targets].double()).sum(-1)
    if bias is not None:
        own += bias[targets].double()
    if hidden.dtype != torch.float32 and not on_gpu:
        own = own.to(hidden.dtype).double()  # rounded as the logits are that it is compared with
    return torch.logsumexp(parts, 0) - own


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """float32 logits. A GPU adds up and gives float32 whatever the model's dtype; a processor rounds to that dtype first."""
    import torch

    if hidden.device.type != "cuda" or hidden.dtype == torch.float32:
        return torch.nn.functional.linear(hidden, weight, bias).float()
    logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    return logits if bias is None else logits.add_(bias)
