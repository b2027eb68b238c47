"""A causal LM from Hugging Face on one device: losses of packed passes, whatever its architecture."""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from star_pipeline.adapters.model_size import skeleton
from star_pipeline.adapters.preflight import in_short
from star_pipeline.adapters.scoring import attention
from star_pipeline.adapters.scoring.prefix_tree import Batch, Pass, forest, packed, padded, rows
from star_pipeline.adapters.scoring.vocabulary import token_losses
from star_pipeline.core.errors import ModelError

_ROUNDING = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""How far two ways to compute a logit may lie apart, as a share of the largest logit."""
_ROWS = 256
_NO_MEMORY = ("can't allocate memory", "could not create a primitive")
"""What torch and oneDNN say on a processor."""


@dataclass(frozen=True)
class Ways:
    """How a model is run: ``packs``, with attention over segments, or rows with padding; ``tiles``, its head in tiles here, or its own."""

    packs: bool
    tiles: bool


class CausalLM:
    """``model`` in ``eval`` mode on ``device``. At the start it is tried out which of the fast ways give what it gives itself."""

    def __init__(self, name: str, model: Any, device: str) -> None:
        self.name, self.device = name, device
        self._model = model
        self._own_attention = model.config._attn_implementation
        self.ways = self._find_ways()

    def plan(self, passes: Sequence[Pass], budget: int) -> Iterator[list[int]]:
        """Numbers of the passes of each batch of about ``budget`` tokens."""
        return (packed if self.ways.packs else padded)(passes, budget)

    def losses(self, passes: Sequence[Pass], members: Sequence[int]) -> dict[int, float] | None:
        """The passes ``members`` as one batch: the mean loss of each, in nats; None where memory did not suffice."""
        import torch

        batch = (forest if self.ways.packs else rows)(passes, members)
        try:
            with torch.inference_mode():
                each = self._token_losses(batch, self.ways).cpu()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            each = None
        if each is None:  # outside of except, where the error would keep the tensors alive
            gc.collect()  # its frames may stand in cycles
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            return None
        # summed in float64, exactly: the mean is the same whatever the neighbours
        parts = each.split(list(batch.counts))
        return {number: math.fsum(part.tolist()) / len(part) for number, part in zip(batch.members, parts, strict=True)}

    def _token_losses(self, batch: Batch, ways: Ways) -> Any:
        import torch

        tokens, sources, targets = (
            torch.from_numpy(a).to(self.device) for a in (batch.tokens, batch.sources, batch.targets)
        )
        given: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
        if batch.segments:
            given["position_ids"] = torch.from_numpy(batch.positions).to(self.device)
        with attention.over(batch, self.device) if batch.segments else nullcontext():
            hidden = self._model.base_model(**given).last_hidden_state.flatten(0, 1)[sources]
        if ways.tiles:
            head = self._model.get_output_embeddings()
            return token_losses(hidden, head.weight, getattr(head, "bias", None), targets)
        with self._returning(hidden) as logits:
            parts = [
                -logits(first).float().log_softmax(-1).gather(-1, targets[first : first + _ROWS, None])[:, 0].double()
                for first in range(0, len(targets), _ROWS)
            ]
        return torch.cat(parts)

    @contextmanager
    def _returning(self, hidden: Any) -> Iterator[Any]:
        """The model's own head, with all that it does to logits (scales, caps), over some rows of ``hidden`` at a time."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPast

        base = self._model.base_model
        first_of = [0]

        def body(*_: Any, **__: Any) -> Any:
            return BaseModelOutputWithPast(last_hidden_state=hidden[None, first_of[0] : first_of[0] + _ROWS])

        def logits(first: int) -> Any:
            first_of[0] = first
            count = len(hidden[first : first + _ROWS])
            ids = torch.zeros((1, count), dtype=torch.long, device=self.device)
            return self._model(input_ids=ids, use_cache=False).logits[0]

        base.forward = body  # on the instance: the class stays as it is
        try:
            yield logits
        finally:
            del base.forward

    def _find_ways(self) -> Ways:
        """Raises ModelError where not even the model's body and head apart give what the model gives."""
        import torch

        trial = _trial_passes(self._model.config.get_text_config().vocab_size)
        with torch.inference_mode():
            expected, largest = self._plainly(trial)
            allowed = _ROUNDING[str(self._model.dtype).removeprefix("torch.")] * max(largest, 1e-3)
            tiles = self._agrees(trial, Ways(False, True), expected, allowed)
            if not tiles and not self._agrees(trial, Ways(False, False), expected, allowed):
                raise ModelError(
                    f"scoring model {self.name!r} ({self._model.config.model_type}): its hidden states and its head do not give its "
                    "logits; expected a causal LM of transformers, or serve it: scoring.small/large: MODEL@http://…/v1"
                )
            packs = self._switch(attention.NAME) and self._agrees(trial, Ways(True, tiles), expected, allowed)
            if not packs:
                self._switch(self._own_attention)
        return Ways(packs, tiles)

    def _plainly(self, trial: Sequence[Pass]) -> tuple[list[float], float]:
        """Each pass alone through the whole model: losses of all its scored tokens, and the largest logit."""
        import torch

        found: list[float] = []
        largest = 0.0
        for item in trial:
            ids = torch.from_numpy(item.tokens.astype(np.int64)).to(self.device)[None]
            logits = self._model(input_ids=ids, use_cache=False).logits[0, -item.scored - 1 : -1].float()
            largest = max(largest, float(logits.abs().max()))
            found += (-logits.log_softmax(-1).gather(-1, ids[0, -item.scored :, None])[:, 0]).tolist()
        return found, largest

    def _agrees(self, trial: Sequence[Pass], ways: Ways, expected: list[float], allowed: float) -> bool:
        batch = (forest if ways.packs else rows)(trial, range(len(trial)))
        try:
            found = self._token_losses(batch, ways).tolist()
        except Exception as error:  # whatever an architecture says to what it was not made for
            if is_out_of_memory(error):
                raise
            return False
        parts = dict(zip(batch.members, np.split(np.array(found), np.cumsum(batch.counts)[:-1]), strict=True))
        together = np.concatenate([parts[number] for number in range(len(trial))])
        return bool(np.abs(together - np.array(expected)).max() <= allowed)

    def _switch(self, implementation: str) -> bool:
        attention.register()
        try:
            self._model.set_attn_implementation(implementation)
        except (ValueError, ImportError, AttributeError):
            return False
        return bool(self._model.config._attn_implementation == implementation)


def _trial_passes(vocabulary: int) -> list[Pass]:
    """Two prompts that begin alike, two responses each, and the responses alone."""
    draw = np.random.default_rng(0)

    def some(count: int) -> Any:
        return draw.integers(0, vocabulary, count).astype(np.int32)

    preamble, start = some(12), some(1)
    made = []
    for _ in range(2):
        prompt = np.concatenate([start, preamble, some(9)])
        for length in (11, 5):
            response = some(length)
            made.append(Pass(np.concatenate([prompt, response]), length))
            made.append(Pass(np.concatenate([start, response]), length))
    return made


def is_out_of_memory(error: BaseException) -> bool:
    """A GPU's or a processor's complaint that there is no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def load(name: str, dtype: str, device: str) -> CausalLM:
    """Weights of a Hugging Face id or folder onto ``device``. Raises ModelError, saying what was expected, where they cannot be had."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype))
        return CausalLM(name, model.to(device).eval(), device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"scoring model {name!r} cannot be loaded: {in_short(error)}; expected a Hugging Face id, or the folder of a causal LM"
        ) from error


def weight_bytes(name: str, dtype: str) -> int:
    """What the weights will take in memory, told by the configuration alone."""
    import torch

    return int(sum(p.numel() for p in skeleton(name).parameters()) * getattr(torch, dtype).itemsize)
