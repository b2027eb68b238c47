"""Losses of rows of logits on a GPU: each logit is read once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BLOCK = 4096


def row_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax of each row of float32 ``logits`` (rows, vocabulary) at ``targets`` (rows,), in nats, float32 (rows,)."""
    return _compute(logits.device)(logits, targets)


def _plainly(logits: Tensor, targets: Tensor) -> Tensor:
    """torch's own, which reads the logits three times and writes as many."""
    import torch

    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


@cache
def _compute(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """The kernel below where Triton and its compiler are there and it gives what torch gives."""
    import torch

    try:
        once = _with_triton()
        trial = torch.randn((3, _BLOCK + 7), device=device, generator=torch.Generator(device).manual_seed(0)) * 10
        targets = torch.tensor([0, _BLOCK, _BLOCK + 6], device=device)
        agrees = torch.allclose(once(trial, targets), _plainly(trial, targets), rtol=1e-5, atol=1e-5)
    except torch.OutOfMemoryError:
        raise  # with fewer tokens at once it is asked again
    except Exception:  # no Triton, no C compiler, a device that it does not know
        return _plainly
    return once if agrees else _plainly


def _with_triton() -> Callable[[Tensor, Tensor], Tensor]:
    import torch
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(logits, targets, losses, stride, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        begin = logits + row * stride
        highest = tl.full((BLOCK,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, width, BLOCK):
            at = first + tl.arange(0, BLOCK)
            each = tl.load(begin + at, mask=at < width, other=float("-inf"))
            higher = tl.maximum(highest, each)
            # a lane that has seen nothing yet would take inf from inf
            kept = tl.where(highest == float("-inf"), 0.0, tl.exp(highest - higher))
            total = total * kept + tl.where(each == float("-inf"), 0.0, tl.exp(each - higher))
            highest = higher
        most = tl.max(highest, 0)
        whole = tl.sum(tl.where(highest == float("-inf"), 0.0, total * tl.exp(highest - most)), 0)
        own = tl.load(begin + tl.load(targets + row))
        tl.store(losses + row, most - own + tl.log(whole))

    def once(logits: Tensor, targets: Tensor) -> Tensor:
        losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        with torch.cuda.device(logits.device):
            kernel[(len(logits),)](
                logits, targets, losses, logits.stride(0), logits.shape[1], BLOCK=_BLOCK, num_warps=8
            )
        return losses

    return once
