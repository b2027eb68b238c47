"""The models that this process keeps loaded, so that the next shard finds them."""

import gc
import threading
from collections.abc import Callable, Sequence

import psutil

from star_pipeline.adapters.scoring import causal_lm
from star_pipeline.adapters.scoring.causal_lm import CausalLM
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.config.scoring import KeepLoaded

_MARGIN = 1.3
"""Times the weights' size: what a model needs while it is loaded and run."""
_Key = tuple[str, str, str, str, tuple[str, ...]]
_held: dict[_Key, list[CausalLM]] = {}
_lock = threading.Lock()


def take(name: str, numerics: Numerics, devices: Sequence[str], keep: KeepLoaded, weights: str = "") -> list[CausalLM]:
    """The model, once on each device; loaded if it is not yet, or if other ``weights`` of that name are.

    ``keep``: whether another model may stay loaded beside it (``both``), may not (``one``), or may as long as there is memory for
    both (``auto``). More than two are never kept.
    """
    key = (name, weights, numerics.dtype, numerics.layers, tuple(devices))
    with _lock:
        for old in [held for held in _held if held[0] == name and held[1] != weights]:
            _drop(old)
        if keep == "one" or (
            keep == "auto" and key not in _held and _held and not _fits(name, numerics.dtype, devices)
        ):
            for other in [held for held in _held if held != key]:
                _drop(other)
        if key not in _held:
            while len(_held) > 1:
                _drop(next(iter(_held)))
            _held[key] = _load(name, numerics, devices)
        _held[key] = _held.pop(key)  # the last used is the last to go
        return _held[key]


def loaded() -> list[str]:
    """Names of the models that are in memory."""
    return [name for name, *_ in _held]


def clear() -> None:
    """Let all models go."""
    for key in list(_held):
        _drop(key)


def _load(name: str, numerics: Numerics, devices: Sequence[str]) -> list[CausalLM]:
    compiled = numerics.layers == "compiled"
    return _freeing(lambda: [causal_lm.load(name, numerics.dtype, device, compiled) for device in devices])


def _freeing(load: Callable[[], list[CausalLM]]) -> list[CausalLM]:
    """Try again with all other models gone if memory did not suffice."""
    try:
        return load()
    except Exception as error:
        if not (_held and causal_lm.is_out_of_memory(error)):
            raise
    clear()
    return load()


def _fits(name: str, dtype: str, devices: Sequence[str]) -> bool:
    import torch

    needed = causal_lm.weight_bytes(name, dtype) * _MARGIN
    if devices[0] == "cpu":
        return bool(needed * len(devices) < psutil.virtual_memory().available)
    return all(needed < torch.cuda.mem_get_info(device)[0] for device in devices)


def _drop(key: _Key) -> None:
    import torch

    del _held[key]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
