"""Log-probabilities of tokens from hidden states, without ever holding the logits of the whole vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from star_pipeline.adapters.scoring.prefix_tree import filled_up
from star_pipeline.adapters.scoring.row_losses import row_losses

if TYPE_CHECKING:
    from torch import Tensor

_CPU_ROWS, _CPU_TILE = 1024, 2**18
"""Logits held at once: what a processor's cache takes."""
_GPU_LOGITS = 2**26
"""What keeps a GPU busy: 256 MiB."""


def token_losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """-log softmax(hidden @ weight.T + bias) at ``targets``, in nats, float64 of shape (S,).

    ``hidden`` has shape (S, width), ``weight`` (vocabulary, width), ``bias`` (vocabulary,), ``targets`` (S,).
    """
    compute = _in_rows if hidden.device.type == "cuda" else _in_tiles
    return compute(hidden, weight, bias, targets)


def _in_rows(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """For GPUs: logits of some rows at a time, in float32 whatever the model's dtype."""
    import torch

    rows = max(64, _GPU_LOGITS // weight.shape[0])
    losses = [
        row_losses(_logits(hidden[first : first + rows], weight, bias), targets[first : first + rows])
        for first in range(0, len(targets), rows)
    ]
    return torch.cat(losses).double()


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """float32, added up as such."""
    import torch

    if hidden.dtype == torch.float32:
        return torch.nn.functional.linear(hidden, weight, bias)
    logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    return logits if bias is None else logits.add_(bias)


def _in_tiles(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """For processors: logits in tiles of some rows by some columns, rounded to the model's dtype first; the log-sum-exp of each tile in
    float32, and the tiles' put together in float64."""
    import torch

    rows, columns = _CPU_ROWS, _CPU_TILE // _CPU_ROWS
    parts = torch.empty((-(-weight.shape[0] // columns), len(targets)), dtype=torch.float64)
    for first in range(0, len(targets), rows):
        chunk = hidden[first : first + rows]
        count = len(chunk)
        chunk = torch.nn.functional.pad(chunk, (0, 0, 0, filled_up(count) - count))
        for number, column in enumerate(range(0, weight.shape[0], columns)):
            some = slice(column, column + columns)
            logits = torch.nn.functional.linear(chunk, weight[some], None if bias is None else bias[some]).float()
            highest = logits.amax(-1, keepdim=True)
            total = logits.sub_(highest).exp_().sum(-1)
            parts[number, first : first + count] = (total.log_() + highest.squeeze(-1))[:count]
    own = (hidden.double() * weight[targets].double()).sum(-1)
    if bias is not None:
        own += bias[targets].double()
    if hidden.dtype != torch.float32:
        own = own.to(hidden.dtype).double()  # rounded as the logits are that it is compared with
    return torch.logsumexp(parts, 0) - own
