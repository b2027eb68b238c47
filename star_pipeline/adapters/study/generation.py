"""Answers of a model loaded here, in the form that it was taught: batched, and but for rounding the same in any batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.prefix_tree import Tokens
from star_pipeline.adapters.study.extras import quietly
from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ScoringSample

_AT_ONCE = {"cpu": 8_192, "cuda": 131_072}
"""Tokens of a batch, prompts and answers together."""
_NO_LIMIT = 1_000_000
"""Of a model whose context is not known."""
_MOST_ROWS = {"cpu": 32, "cuda": 256}


@dataclass(frozen=True)
class Written:
    """``finish``: ``stop``, where the model ended by itself; ``length``, where ``max_tokens`` or its context did."""

    text: str
    finish: Literal["stop", "length"]
    tokens: int


def portions(prompts: Sequence[Tokens], limit: int, max_tokens: int, device: str) -> list[list[int]]:
    """Numbers of the prompts of each batch: of like length, and with the same room for an answer. A function of the prompts alone.

    A prompt of ``limit`` tokens or more is in no batch.
    """
    found: list[list[int]] = []
    room_of = [min(max_tokens, limit - len(prompt)) for prompt in prompts]
    order = sorted((n for n, room in enumerate(room_of) if room > 0), key=lambda n: (-room_of[n], len(prompts[n]), n))
    for number in order:
        if found:
            last = found[-1]
            room, size = room_of[last[0]], (len(last) + 1) * (len(prompts[number]) + room_of[number])
            if room == room_of[number] and size <= _AT_ONCE[device] and len(last) < _MOST_ROWS[device]:
                last.append(number)
                continue
        found.append([number])
    return found


class Writer:
    """The model in ``source``, loaded when the first batch is written. ``temperature`` 0 is greedy; above, each answer's draws are
    its own: they depend on ``seed`` and the name it is asked under, not on what else is in its batch."""

    def __init__(
        self,
        source: str,
        form: Form,
        numerics: Numerics,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        version: str = "",
    ) -> None:
        self._source, self._numerics = source, numerics
        self._texts = TargetTexts(source, form, _NO_LIMIT, version)
        self._max_tokens, self._temperature, self._seed = max_tokens, temperature, seed
        self._model: Any = None  # Any: transformers is not followed

    @property
    def limit(self) -> int:
        """Tokens that the model takes, prompt and answer together."""
        return self._texts.limit

    def prompts(self, samples: Sequence[ScoringSample]) -> list[Tokens | None]:
        """What an answer to each follows; None where the chat template refuses the conversation."""
        return self._texts.asked(samples)

    def room(self, prompt: Tokens) -> int:
        """Tokens that the answer may have; none where this is not positive."""
        return min(self._max_tokens, self.limit - len(prompt))

    def portions(self, prompts: Sequence[Tokens]) -> list[list[int]]:
        return portions(prompts, self._texts.limit, self._max_tokens, self._numerics.device)

    def write(self, prompts: Sequence[Tokens], names: Sequence[str]) -> list[Written]:
        """An answer to each prompt of one portion, in order. Raises ModelError."""
        import torch
        import transformers

        with self._numerics.in_force(), quietly(), torch.inference_mode():
            model = self._loaded()
            width, room = max(map(len, prompts)), min(map(self.room, prompts))
            ids = torch.tensor([[0] * (width - len(prompt)) + prompt.tolist() for prompt in prompts])
            seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            processors = transformers.LogitsProcessorList()
            if self._temperature:
                processors.append(_drawing(self._temperature, [_number(self._seed, name) for name in names]))
            try:
                made = model.generate(
                    input_ids=ids.to(model.device),
                    attention_mask=seen.to(model.device),
                    max_new_tokens=room,
                    logits_processor=processors,
                )
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"study: memory does not suffice for {len(prompts)} answers of {self._source!r} at once; lower "
                    "study.evaluate.answers.max_tokens, or answer through a server (answers.agent)"
                ) from error
        return [self._read(row) for row in made[:, width:].tolist()]

    def _read(self, ids: list[int]) -> Written:
        stops = self._stops()
        count = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        text = str(self._texts.tokenizer.decode(ids[:count], skip_special_tokens=True)).strip()
        return Written(text, "stop" if count < len(ids) else "length", min(count + 1, len(ids)))

    def _stops(self) -> set[int]:
        known = self._model.generation_config.eos_token_id
        return {known} if isinstance(known, int) else set(known)

    def _loaded(self) -> Any:
        """The model, with settings of generation of its own that say nothing but where it ends: no penalty, no sampling."""
        if self._model is None:
            import transformers

            model_cache.clear()  # what scored before is not needed meanwhile
            try:
                load = transformers.AutoModelForCausalLM.from_pretrained
                here = only_from_here(self._source)
                model = load(self._source, dtype=self._numerics.dtype, local_files_only=here)
                model = model.to(self._numerics.device).eval()
            except Exception as error:  # whatever transformers says to files that are not what they should be
                raise unloadable(self._source, error) from error
            known = model.generation_config.eos_token_id
            ends = [*([known] if isinstance(known, int) else known or ()), self._texts.end[-1]]
            model.generation_config = transformers.GenerationConfig(
                eos_token_id=list(dict.fromkeys(ends)), pad_token_id=ends[-1], do_sample=False, use_cache=True
            )
            self._model = model
        return self._model


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:7], "big")


def _drawing(temperature: float, seeds: Sequence[int]) -> Any:
    """Noise of each row's own that makes the likeliest token a draw (Gumbel's), so that greedy search samples."""
    import torch
    import transformers

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Drawing(transformers.LogitsProcessor):  # type: ignore[misc]  # it is Any, since transformers is not followed
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            drawn = torch.stack([torch.rand(scores.shape[1], generator=one, dtype=torch.float64) for one in generators])
            noise = -torch.log(-torch.log(drawn.clamp(1e-300, 1 - 1e-16)))
            return scores.double() / temperature + noise.to(scores.device)

    return Drawing()
