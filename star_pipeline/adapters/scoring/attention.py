"""Attention over a forest of token segments, for any model that takes its attention from transformers' AttentionInterface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import signature
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from star_pipeline.adapters.scoring.on_device import on_device
from star_pipeline.adapters.scoring.prefix_tree import Batch, Segment

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME, IN_COMPILED = "star_prefix_tree", "star_prefix_tree_in_compiled"
"""The second for layers that torch compiles: there it stays as it is."""
_QUERIES = 128
_UNDERSTOOD = {"is_causal", "position_ids", "use_cache", "cache_position", "output_attentions"}


class NotSupported(Exception):
    """The model asks its attention for something that this one does not do."""


@dataclass(frozen=True)
class _Row:
    """Segments of like size in rows: indices of queries (R, Q) and keys (R, K), what is seen, (R, 1, Q, K), and which of the R·Q
    queries are real (no padding), by number."""

    queries: Tensor
    keys: Tensor
    seen: Tensor
    real: Tensor


@dataclass(frozen=True)
class _Paths:
    """Segments one after the other, each with the keys of its whole path: their indices (None: the tokens as they lie), and where each
    segment's queries and keys begin and end, int32 (segments + 1,)."""

    keys: Tensor | None
    query_borders: Tensor
    key_borders: Tensor
    most_queries: int
    most_keys: int


class _Layout:
    """A batch's segments, with the masks and indices that its layers share."""

    def __init__(self, batch: Batch, device: str) -> None:
        self.segments = batch.segments
        self._device = device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}
        self._padded: dict[int | None, list[_Row]] = {}

    def hide(self, scores: Tensor, window: int | None) -> None:
        """Set scores (heads, queries, keys) to -inf for later keys and keys out of the window; keys end at the last query's."""
        queries, keys = scores.shape[1:]
        if not window:
            # only among the last keys is there anything to hide
            scores[:, :, keys - queries :].add_(self._mask(queries, queries, None, scores.dtype))
        else:
            scores.add_(self._mask(queries, keys, window, scores.dtype))

    def _mask(self, queries: int, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        import torch

        at = (queries, keys, window)
        if at not in self._masks:
            mask = torch.zeros(queries, keys, dtype=dtype)
            self._masks[at] = mask.masked_fill_(_hidden(keys - queries, queries, window), float("-inf")).to(
                self._device
            )
        return self._masks[at]

    @cached_property
    def paths(self) -> _Paths:
        lengths = [segment.end - segment.start for segment in self.segments]
        reaches = [segment.depth + length for segment, length in zip(self.segments, lengths, strict=True)]
        apart = all(not segment.before for segment in self.segments)
        spans = [np.arange(*span) for segment in self.segments for span in segment.spans]
        return _Paths(
            None if apart else on_device(np.concatenate(spans), self._device),
            on_device(np.array([0, *accumulate(lengths)], dtype=np.int32), self._device),
            on_device(np.array([0, *accumulate(reaches)], dtype=np.int32), self._device),
            max(lengths),
            max(reaches),
        )

    def padded(self, window: int | None) -> list[_Row]:
        """Segments of like size in rows."""
        if window not in self._padded:
            self._padded[window] = [self._rows(bucket, window) for bucket in _buckets(self.segments)]
        return self._padded[window]

    def _rows(self, bucket: Sequence[Segment], window: int | None) -> _Row:
        import torch

        width = max(segment.end - segment.start for segment in bucket)
        reach = max(segment.depth + segment.end - segment.start for segment in bucket)
        queries = torch.zeros(len(bucket), width, dtype=torch.long)
        keys = torch.zeros(len(bucket), reach, dtype=torch.long)
        seen = torch.zeros(len(bucket), 1, width, reach, dtype=torch.bool)
        real = torch.zeros(len(bucket), width, dtype=torch.bool)
        for row, segment in enumerate(bucket):
            length, depth = segment.end - segment.start, segment.depth
            queries[row, :length] = torch.arange(segment.start, segment.end)
            keys[row, : depth + length] = torch.cat([torch.arange(*span) for span in segment.spans])
            seen[row, 0, :length, : depth + length] = ~_hidden(depth, length, window)
            seen[row, 0, length:, 0] = True  # a row that sees nothing would be NaN
            real[row, :length] = True
        numbers = real.flatten().nonzero().squeeze(-1)
        return _Row(*(on_device(each, self._device) for each in (queries, keys, seen, numbers)))


def _hidden(depth: int, length: int, window: int | None) -> Tensor:
    """bool (length, depth + length): which keys a segment's tokens do not see, after ``depth`` tokens of its ancestors."""
    import torch

    queries = torch.arange(depth, depth + length).unsqueeze(1)
    keys = torch.arange(depth + length).unsqueeze(0)
    hidden = keys > queries
    return hidden | (keys <= queries - window) if window else hidden


def _buckets(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments sorted by their paths' lengths, each bucket within a factor of two."""
    bucket: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (s.depth + s.end - s.start, s.end - s.start)):
        if (
            bucket
            and segment.depth + segment.end - segment.start
            > 2 * (bucket[0].depth + bucket[0].end - bucket[0].start) + 32
        ):
            yield bucket
            bucket = []
        bucket.append(segment)
    if bucket:
        yield bucket


_layout: ContextVar[_Layout | None] = ContextVar("star_layout", default=None)


@contextmanager
def over(batch: Batch, device: str) -> Iterator[_Layout]:
    """Within, attention in this thread is the batch's."""
    layout = _Layout(batch, device)
    token = _layout.set(layout)
    try:
        yield layout
    finally:
        _layout.reset(token)


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    sliding_window: int | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """transformers' attention: query (1, heads, T, dim), key and value with as many heads or fewer; gives (1, T, heads, dim)."""
    layout = _layout.get()
    unknown = {name for name, given in options.items() if given is not None and given is not False} - _UNDERSTOOD
    if layout is None or attention_mask is not None or unknown or dropout:
        raise NotSupported(f"attention options {', '.join(sorted(unknown)) or 'or mask'}")
    if query.device.type == "cpu":
        execute = _by_segment
    elif _flash(query, value):
        execute = _by_paths
    else:
        execute = _by_rows
    return execute(layout, query, key, value, scaling, sliding_window), None


def _by_segment(
    layout: _Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Plain matrix products, some queries of one segment at a time: nothing is padded, hidden keys are hardly computed.

    For processors, where this is two to four times as fast as torch's own attention up to some hundred tokens.
    """
    import torch

    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    # oneDNN would compile a kernel for each of a thousand shapes, and keep it
    products.fp32_precision = "none"
    try:
        return _products(layout, query, key, value, scaling, window)
    finally:
        products.fp32_precision = before


def _products(
    layout: _Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    import torch

    _, heads, tokens, width = query.shape
    shared, scale = key.shape[1], width**-0.5 if scaling is None else scaling
    out = torch.empty((tokens, heads, value.shape[3]), dtype=query.dtype, device=query.device)
    for segment in layout.segments:
        k, v = _path(key[0], segment), _path(value[0], segment)
        for start in range(segment.start, segment.end, _QUERIES):
            end = min(start + _QUERIES, segment.end)
            reach = segment.depth + end - segment.start
            first = max(0, reach - (end - start) - window + 1) if window else 0
            # heads that share a key are rows of one product: (shared, heads/shared * queries, width)
            q = query[0, :, start:end].reshape(shared, -1, width)
            scores = torch.bmm(q, k[:, first:reach].transpose(1, 2)).mul_(scale)
            layout.hide(scores.view(heads, end - start, reach - first), window)
            part = torch.bmm(torch.softmax(scores, -1), v[:, first:reach])
            out[start:end] = part.view(heads, end - start, -1).transpose(0, 1)
    return out.unsqueeze(0)


def _path(tensor: Tensor, segment: Segment) -> Tensor:
    """Keys or values (heads, tokens, dim) of a segment and all before it."""
    import torch

    spans = segment.spans
    if all(a[1] == b[0] for a, b in pairwise(spans)):
        return tensor[:, spans[0][0] : segment.end]
    return torch.cat([tensor[:, start:end] for start, end in spans], dim=1)


def _by_rows(
    layout: _Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """One call a bucket of segments of like size, padded and masked. For GPUs, where a call costs more than padding."""
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    shared = query.shape[1] // key.shape[1]
    if shared > 1:  # with a mask, torch has no kernel for shared keys that would not keep all scores
        key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
    out = torch.empty((query.shape[2], query.shape[1], value.shape[3]), dtype=query.dtype, device=query.device)
    for row in layout.padded(window):
        # (heads, T, dim) → (rows, heads, width, dim)
        q = query[0][:, row.queries].transpose(0, 1)
        k, v = key[0][:, row.keys].transpose(0, 1), value[0][:, row.keys].transpose(0, 1)
        part = attend(q, k, v, row.seen, scale=scaling).transpose(1, 2).flatten(0, 1)
        # by number, not by a mask: a mask's count is waited for, layer by layer
        out[row.queries.flatten()[row.real]] = part[row.real]
    return out.unsqueeze(0)


def _by_paths(
    layout: _Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """One call of FlashAttention for all segments, each over the keys of its path: nothing is padded or masked."""
    paths = layout.paths
    # (1, heads, T, dim) → (T, heads, dim); the last query of a segment sees its last key, and so on upwards
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    if paths.keys is not None:  # half the time where a token's heads lie together
        k, v = k.contiguous()[paths.keys], v.contiguous()[paths.keys]
    attend, options = _varlen()
    if "enable_gqa" in options:
        options = {**options, "enable_gqa": q.shape[1] != k.shape[1]}
    out: Tensor = attend(
        q, k, v, paths.query_borders, paths.key_borders, paths.most_queries, paths.most_keys,
        scale=scaling, window_size=(window - 1 if window else -1, 0), **options,
    )  # fmt: skip  # what, then how
    return out.unsqueeze(0)


@cache
def _varlen() -> tuple[Any, dict[str, Any]]:
    """torch's attention over sequences of differing lengths, and the options that this version has of those wanted."""
    import torch
    from torch.nn.attention.varlen import varlen_attn

    wanted: dict[str, Any] = {"enable_gqa": False}
    if not torch.version.hip:  # which refuses it
        wanted["num_splits"] = 1  # a value does not depend on its batch
    return varlen_attn, {name: given for name, given in wanted.items() if name in signature(varlen_attn).parameters}


def _flash(query: Tensor, value: Tensor) -> bool:
    """Whether FlashAttention takes these: half precision, heads of at most 256, on an Ampere or later."""
    import torch

    return (
        query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1]
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and _recent(query.device)
    )


@cache
def _recent(device: torch.device) -> bool:
    import torch

    try:
        _varlen()
    except ImportError:
        return False
    return bool(torch.cuda.get_device_capability(device) >= (8, 0))


def register(name: str) -> None:
    """Make the attention known to transformers as ``NAME``, or as ``IN_COMPILED``; models then build no mask for it."""
    import torch
    import transformers

    function = tree_attention if name == NAME else torch.compiler.disable(tree_attention)
    transformers.AttentionInterface.register(name, function)
