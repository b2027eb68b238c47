"""A causal LM from Hugging Face on one device: losses of packed passes, whatever its architecture."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.model_size import skeleton
from star_pipeline.adapters.scoring import attention
from star_pipeline.adapters.scoring.batch_plan import ExecutionModes as ExecutionModes
from star_pipeline.adapters.scoring.batch_plan import plan_batches
from star_pipeline.adapters.scoring.length_borders import LengthBorders, RotaryState
from star_pipeline.adapters.scoring.on_device import on_device
from star_pipeline.adapters.scoring.prefix_tree import Batch, ForwardPass, Tokens, forest, rows
from star_pipeline.adapters.scoring.token_losses import token_losses
from star_pipeline.core.errors import ModelError, in_short

if TYPE_CHECKING:
    import transformers
    from numpy.typing import NDArray
    from torch import Tensor

_ROUNDING = {"float32": 5e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""How far two ways to compute a logit may lie apart, as a share of the largest logit. In float32 Qwen2.5-0.5B, with its large
activations, comes to 1.5e-5 by the order of sums alone; a way that is wrong lies far beyond."""
_ROWS = 256
_NO_MEMORY = ("can't allocate memory", "could not create a primitive")
"""What torch and oneDNN say on a processor."""


@dataclass(frozen=True, eq=False)
class BatchLosses:
    """Losses of a batch's targets, float64 in nats, where they were computed: maybe not all of them yet."""

    batch: Batch
    each: Tensor

    def by_token(self) -> dict[int, list[float]]:
        """Of each scored token by itself, in their order, pass by pass; waits for them."""
        parts = self.each.cpu().split(list(self.batch.counts))
        return {number: part.tolist() for number, part in zip(self.batch.members, parts, strict=True)}

    def means(self) -> dict[int, float]:
        """The mean of each pass; waits for them."""
        # summed in float64, exactly: the mean is the same whatever the neighbours
        return {number: math.fsum(some) / len(some) for number, some in self.by_token().items()}


class CausalLM:
    """``model`` in ``eval`` mode on ``device``. It is tried out which of the fast ways give what it gives itself: at the start, and
    anew when passes come that are longer than a border which its configuration names."""

    def __init__(self, name: str, model: transformers.PreTrainedModel, device: str, compiled: bool = False) -> None:
        self.name, self.device = name, device
        self._model = model
        # some families (Llama 4) give their body another name than they say
        self._body = model.base_model if model.base_model is not model else getattr(model, "model", model)
        self._own_attention = model.config._attn_implementation
        self._packed_attention = attention.IN_COMPILED if compiled else attention.NAME
        self.lengths = LengthBorders(model.config)
        self._at_rest = RotaryState(model)
        self._ways = {0: self._find_ways()}
        if compiled:
            self._compile_layers()

    @property
    def vocabulary(self) -> int:
        """How many token ids it knows."""
        return int(self._model.config.get_text_config().vocab_size)

    @property
    def ways(self) -> ExecutionModes:
        """How passes are run that are within every border."""
        return self._ways[0]

    def plan(self, passes: Sequence[ForwardPass], budget: int) -> Iterator[list[int]]:
        """Numbers of the passes of each batch of about ``budget`` tokens, all of it on one side of each border."""
        return plan_batches(passes, budget, self.lengths.borders, self.ways_of)

    def losses(self, passes: Sequence[ForwardPass], members: Sequence[int]) -> dict[int, float] | None:
        """The passes ``members`` as one batch of the plan: the mean loss of each, in nats; None where memory did not suffice."""
        begun = self.begin(passes, members)
        return None if begun is None else begun.means()

    def begin(self, passes: Sequence[ForwardPass], members: Sequence[int]) -> BatchLosses | None:
        """The same, which a GPU may still be busy with: it is given the next batch before the losses of the last are asked for."""
        import torch

        side = max(self._side(passes[number]) for number in members)
        try:
            with torch.inference_mode():
                return BatchLosses(*self._run(passes, members, self.ways_of(side), whole=side > 0))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # outside of except, where the error would keep the tensors alive
        gc.collect()  # its frames may stand in cycles
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return None

    def _side(self, item: ForwardPass) -> int:
        return self.lengths.side(len(item.tokens))

    def _run(
        self, passes: Sequence[ForwardPass], members: Sequence[int], ways: ExecutionModes, whole: bool
    ) -> tuple[Batch, Tensor]:
        """The batch, and the losses of its targets. Nothing of an earlier batch is left in the model."""
        self._switch(self._packed_attention if ways.packs else self._own_attention)
        self._at_rest.restore()
        batch = (forest if ways.packs else rows)(passes, members, whole)
        return batch, self._token_losses(batch, ways.tiles)

    def _token_losses(self, batch: Batch, tiles: bool) -> Tensor:
        import torch

        tokens, sources, targets = (
            on_device(each, self.device) for each in (batch.tokens, batch.sources, batch.targets)
        )
        given: dict[str, object] = {"input_ids": tokens, "use_cache": False}
        if batch.segments:
            given["position_ids"] = on_device(batch.positions, self.device)
        with attention.over(batch, self.device) if batch.segments else nullcontext():
            hidden = self._body(**given).last_hidden_state.flatten(0, 1)[sources]
        if tiles:
            head = self._model.get_output_embeddings()
            return token_losses(hidden, head.weight, getattr(head, "bias", None), targets)
        with self._returning(hidden) as logits:
            parts = [
                -logits(first).float().log_softmax(-1).gather(-1, targets[first : first + _ROWS, None])[:, 0].double()
                for first in range(0, len(targets), _ROWS)
            ]
        return torch.cat(parts)

    @contextmanager
    def _returning(self, hidden: Tensor) -> Iterator[Callable[[int], Tensor]]:
        """The model's own head, with all that it does to logits (scales, caps), over some rows of ``hidden`` at a time."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPast

        base = self._body
        first_of = [0]

        def body(*_: object, **__: object) -> BaseModelOutputWithPast:
            return BaseModelOutputWithPast(last_hidden_state=hidden[None, first_of[0] : first_of[0] + _ROWS])

        def logits(first: int) -> Tensor:
            first_of[0] = first
            count = len(hidden[first : first + _ROWS])
            ids = torch.zeros((1, count), dtype=torch.long, device=self.device)
            return self._model(input_ids=ids, use_cache=False).logits[0]

        base.forward = body  # on the instance: the class stays as it is
        try:
            yield logits
        finally:
            del base.forward

    def _find_ways(self) -> ExecutionModes:
        """Raises ModelError where not even the model's body and head apart give what the model gives."""
        import torch

        vocabulary = self._model.config.get_text_config().vocab_size
        trial = _trial_passes(vocabulary, self.lengths.last(0, 10**9))
        with torch.inference_mode():
            expected, largest = self._plainly(trial)
            if not math.isfinite(largest):
                raise ModelError(
                    f"scoring model {self.name!r}: its logits are no finite numbers in {self._model.dtype}; look for NaN in its weights "
                    "(a broken download or training), or set scoring.dtype: float32"
                )
            if self._sees_ahead(trial[0]):
                raise ModelError(
                    f"scoring model {self.name!r} ({self._model.config.model_type}): what it says of a token depends on later ones; "
                    "expected a causal LM, not an encoder"
                )
            self._allowed = _ROUNDING[str(self._model.dtype).removeprefix("torch.")] * max(largest, 1e-3)
            tiles = self._agrees(trial, ExecutionModes(False, True), expected)
            if not tiles and not self._agrees(trial, ExecutionModes(False, False), expected):
                raise ModelError(
                    f"scoring model {self.name!r} ({self._model.config.model_type}): its hidden states and its head do not give its "
                    "logits; expected a causal LM of transformers, or serve it: scoring.small/large: MODEL@http://…/v1"
                )
            packs = self._switch(self._packed_attention) and self._agrees(trial, ExecutionModes(True, tiles), expected)
        return ExecutionModes(packs, tiles)

    def _compile_layers(self) -> None:
        """Run each layer as one or two kernels a step, for passes of any length. Raises ModelError where that cannot be had here, or
        gives other losses."""
        import torch

        trial = _trial_passes(self.vocabulary, self.lengths.last(0, 10**9))
        members = range(len(trial))
        with torch.inference_mode():
            expected = self._run(trial, members, self.ways, whole=False)[1].tolist()
            named = set(getattr(self._model, "_no_split_modules", None) or ())
            layers = [module for module in self._body.modules() if type(module).__name__ in named]
            for layer in layers:
                layer.compile(dynamic=True)
            try:
                found = self._run(trial, members, self.ways, whole=False)[1].tolist()
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"scoring.compile_layers: the layers of {self.name!r} cannot be compiled here ({in_short(error)}); expected a GPU, "
                    "Triton and a C compiler; set it to false"
                ) from error
        if not layers or not np.abs(np.array(found) - np.array(expected)).max() <= self._allowed:
            why = "give other losses than they do uncompiled" if layers else "are not known by name"
            raise ModelError(f"scoring.compile_layers: the layers of {self.name!r} {why}; set it to false")

    def ways_of(self, side: int) -> ExecutionModes:
        """The ways for passes beyond ``side`` borders: the fastest that give what each of two such passes gives when it is alone."""
        if side not in self._ways:
            import torch

            packs, tiles = self.ways.packs, self.ways.tiles
            together = (
                [] if self.lengths.each_its_own(side) else [ExecutionModes(True, tiles), ExecutionModes(False, tiles)]
            )
            plainly = ExecutionModes(False, tiles, together=False)
            trial = _long_trial(self._model.config.get_text_config().vocab_size, self.lengths, side)
            with torch.inference_mode():
                alone = [self._run(trial, [n], plainly, whole=True)[1].tolist() for n in range(len(trial))]
                expected = [loss for losses in alone for loss in losses]
                chosen = (
                    ways
                    for ways in (*together, ExecutionModes(True, tiles, together=False))
                    if (packs or not ways.packs) and self._agrees(trial, ways, expected, whole=True)
                )
                self._ways[side] = next(chosen, plainly)
        return self._ways[side]

    def _plainly(self, trial: Sequence[ForwardPass]) -> tuple[list[float], float]:
        """Each pass alone through the whole model: losses of all its scored tokens, and the largest logit."""
        import torch

        found: list[float] = []
        largest = 0.0
        for item in trial:
            ids = torch.from_numpy(item.tokens.astype(np.int64)).to(self.device)[None]
            logits = self._model(input_ids=ids, use_cache=False).logits[0, -item.scored - 1 : -1].float()
            largest = float(np.maximum(largest, float(logits.abs().max())))  # NaN stays NaN
            found += (-logits.log_softmax(-1).gather(-1, ids[0, -item.scored :, None])[:, 0]).tolist()
        return found, largest

    def _sees_ahead(self, item: ForwardPass) -> bool:
        """Whether another last token changes what is said of those before it by more than rounding does."""
        import torch

        ids = torch.from_numpy(item.tokens.astype(np.int64)).to(self.device)[None]
        other = ids.clone()
        other[0, -1] = (other[0, -1] + 1) % self._model.config.get_text_config().vocab_size
        one, two = (self._model(input_ids=given, use_cache=False).logits[0, :-1].float() for given in (ids, other))
        rounding = _ROUNDING[str(self._model.dtype).removeprefix("torch.")]
        return bool((one - two).abs().max() > rounding * max(float(one.abs().max()), 1e-3))

    def _agrees(
        self, trial: Sequence[ForwardPass], ways: ExecutionModes, expected: list[float], whole: bool = False
    ) -> bool:
        numbers = range(len(trial))
        parts: dict[int, NDArray[np.float64]] = {}
        try:
            for members in [numbers] if ways.together else [[number] for number in numbers]:
                batch, found = self._run(trial, members, ways, whole)
                cut = np.split(np.array(found.tolist()), np.cumsum(batch.counts)[:-1])
                parts.update(zip(batch.members, cut, strict=True))
        except Exception as error:  # whatever an architecture says to what it was not made for
            if is_out_of_memory(error):
                raise
            return False
        together = np.concatenate([parts[number] for number in numbers])
        return bool(np.abs(together - np.array(expected)).max() <= self._allowed)

    def _switch(self, implementation: str) -> bool:
        if self._model.config._attn_implementation == implementation:
            return True
        if implementation != self._own_attention:
            attention.register(implementation)
        try:
            self._model.set_attn_implementation(implementation)
        except (ValueError, ImportError, AttributeError):
            return False
        return bool(self._model.config._attn_implementation == implementation)


def _trial_passes(vocabulary: int, longest: int) -> list[ForwardPass]:
    """Two prompts that begin alike, two responses each, and the responses alone; cut to ``longest`` tokens."""
    draw = np.random.default_rng(0)

    def some(count: int) -> Tokens:
        return draw.integers(0, vocabulary, count).astype(np.int32)

    preamble, start = some(12), some(1)
    made = []
    for _ in range(2):
        prompt = np.concatenate([start, preamble, some(9)])
        for length in (11, 5):
            response = some(length)
            made.append(np.concatenate([prompt, response]))
            made.append(np.concatenate([start, response]))
    scored = (11, 11, 5, 5) * 2
    return [
        ForwardPass(tokens[:longest], min(count, longest - 1, len(tokens) - 1))
        for tokens, count in zip(made, scored, strict=True)
    ]


def _long_trial(vocabulary: int, lengths: LengthBorders, side: int) -> list[ForwardPass]:
    """Two passes of a side, one as short as can be and one longer, alike in their first halves."""
    draw = np.random.default_rng(side)
    first = lengths.first(side)
    longer = draw.integers(0, vocabulary, lengths.last(side, first + 97)).astype(np.int32)
    shorter = np.concatenate([longer[: first // 2], draw.integers(0, vocabulary, first - first // 2).astype(np.int32)])
    return [ForwardPass(tokens, min(24, len(tokens) - 1)) for tokens in (shorter, longer)]


def is_out_of_memory(error: BaseException) -> bool:
    """A GPU's or a processor's complaint that there is no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def load(name: str, dtype: str, device: str, compiled: bool = False) -> CausalLM:
    """Weights of a Hugging Face id or folder onto ``device``. Raises ModelError, saying what was expected, where they cannot be had."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, dtype), output_loading_info=True
        )
        if lacking := sorted(found["missing_keys"]):
            raise ModelError(
                f"scoring model {name!r}: its weights lack {lacking[0]} and {len(lacking) - 1:,} more; expected all of a causal LM's "
                f"({type(model).__name__})"
            )
        return CausalLM(name, model.to(device).eval(), device, compiled)
    except Exception as error:  # whatever a library says to weights that are not what they should be
        if is_out_of_memory(error):
            raise
        raise unloadable(name, error) from error


def weight_bytes(name: str, dtype: str) -> int:
    """What the weights will take in memory, told by the configuration alone."""
    import torch

    return int(sum(p.numel() for p in skeleton(name).parameters()) * getattr(torch, dtype).itemsize)
