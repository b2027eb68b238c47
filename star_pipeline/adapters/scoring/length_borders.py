"""Where a model's doing changes with a pass's length: passes on either side of such a border never share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from star_pipeline.adapters.scoring.batch_plan import side_of

if TYPE_CHECKING:
    import torch
    import transformers

_NAMES = {
    "original_max_position_embeddings",
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "sliding_window",
    "sliding_window_size",
    "window_size",
    "attention_window",
    "keep_window_size",
    "attention_chunk_size",
    "floor_scale",
    "log_scaling_n_floor",
    "index_topk",
}
"""Settings of transformers' configurations that name a length from which on something is done in another way."""
_LEAST = 4


class LengthBorders:
    """The borders that a model's configuration names.

    With ``longrope`` (Phi), the longest position of a pass decides by which factors all its positions are turned; with
    ``dynamic`` rope every length beyond the border has a base of its own. What else begins at a border (windows, chunks, scales
    by position) depends on no neighbour, but is tried out only by passes that are as long.
    """

    def __init__(self, config: transformers.PretrainedConfig) -> None:
        text = config.get_text_config()
        settings = text.to_dict()
        self.borders = tuple(sorted(set(_named(settings))))
        dynamic = any("dynamic" in kind for kind in _rope_types(settings))
        # transformers takes it for the length that a dynamic model was trained at
        trained_at = getattr(text, "max_position_embeddings", None) if dynamic else None
        self._each_its_own = trained_at if isinstance(trained_at, int) else None

    def side(self, length: int) -> int:
        """How many borders a pass of so many tokens is beyond."""
        return side_of(self.borders, length)

    def each_its_own(self, side: int) -> bool:
        """Whether on this side no two lengths may share a batch, as far as the configuration tells."""
        return self._each_its_own is not None and side > self.side(self._each_its_own)

    def first(self, side: int) -> int:
        """The shortest length on a side."""
        return self.borders[side - 1] + 1 if side else 1

    def last(self, side: int, most: int) -> int:
        """The longest length on a side, at most ``most``."""
        return min(self.borders[side], most) if side < len(self.borders) else most


class RotaryState:
    """What a model's rotary embeddings keep from pass to pass, as it was at the start: ``dynamic`` ones keep the longest seen."""

    def __init__(self, model: torch.nn.Module) -> None:
        rotary = [
            module
            for module in model.modules()
            if any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False))
        ]
        self._kept = [
            (module, {name: buffer.clone() for name, buffer in module.named_buffers(recurse=False)}, _counters(module))
            for module in rotary
        ]

    def restore(self) -> None:
        for module, buffers, counters in self._kept:
            for name, buffer in buffers.items():
                setattr(module, name, buffer.clone())
            for name in _counters(module).keys() - counters.keys():
                delattr(module, name)
            for name, value in counters.items():
                setattr(module, name, value)


def _counters(module: torch.nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name.endswith("max_seq_len_cached")}


def _named(settings: Mapping[str, object]) -> Iterator[int]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif name in _NAMES and isinstance(value, int) and value >= _LEAST:
            yield value


def _rope_types(settings: Mapping[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _rope_types(value)
        elif name in ("rope_type", "type") and isinstance(value, str):
            yield value
