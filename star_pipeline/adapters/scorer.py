"""Eq. 4 under a Hugging Face causal LM: mean losses of a response with and without its instruction."""

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from star_pipeline.adapters.preflight import check_folder, in_short
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ModelFit, Progress, ResponseLoss, ScoringSample
from star_pipeline.core.score_templates import prompt_messages, prompt_text

_LIMIT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx")


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device with its tokenizer; ``start`` is the start token's id, ``context`` the model's limit."""

    name: str
    model: Any
    tokenizer: Any
    start: int
    context: int | None
    device: str


@dataclass(frozen=True)
class Numerics:
    """What decides the last digits of a value: fixed once a lake, so that its scores stay comparable."""

    dtype: str
    device: str
    threads: int


def numerics(dtype: str, device: str, recorded: Numerics | None) -> Numerics:
    """The settings with ``auto`` filled in: as ``recorded`` where the lake has scored before, else float32 on a CPU and
    bfloat16 on a GPU. Raises ModelError where a recorded device is not there."""
    import torch

    if device == "auto":
        device = recorded.device if recorded else "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"scoring.device: {device} is not there (this lake may have been scored on another machine); set scoring.device: cpu "
            "and accept slightly different values, or go back to that machine"
        )
    if dtype == "auto":
        dtype = recorded.dtype if recorded else "float32" if device == "cpu" else "bfloat16"
    return Numerics(dtype, device, recorded.threads if recorded else torch.get_num_threads())


@functools.lru_cache(maxsize=2)
def load_model(name: str, dtype: str, device: str) -> LoadedModel:
    """Load once a process. Raises ModelError, saying what was expected, where it cannot be."""
    check_folder(name)
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype)).to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"scoring model {name!r} cannot be loaded: {in_short(error)}; expected a Hugging Face id, or the folder of a causal LM"
        ) from error
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ModelError(
            f"scoring model {name!r}: its tokenizer has neither a BOS nor an EOS token, and the first response token needs one "
            "before it; set bos_token in its tokenizer_config.json"
        )
    text_config = model.config.get_text_config()
    limits = [value for key in _LIMIT_NAMES if isinstance(value := getattr(text_config, key, None), int) and value > 0]
    return LoadedModel(name, model, tokenizer, start, min(limits, default=None), device)


@dataclass(frozen=True)
class _Encoded:
    """Token ids, and for each response token where in the response it begins and ends, in characters."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def whole_characters(self, count: int) -> int:
        """How many characters the first ``count`` tokens hold whole: a character can be spread over several tokens."""
        end = self.ends[count - 1]
        return min(end, self.starts[count]) if count < len(self.starts) else end


class TransformersScorer:
    """The port's scorer. A value does not depend on the batch it was computed in, but for the last bits of float32."""

    def __init__(
        self,
        loaded: LoadedModel,
        template: str,
        max_length: int,
        batch_tokens: int,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._loaded = loaded
        self._template = template
        self._limit = min(max_length, loaded.context or max_length)
        self._batch_tokens = batch_tokens
        self._encoded: dict[ScoringSample, _Encoded] = {}

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        return [self._fit(sample) for sample in samples]

    def _fit(self, sample: ScoringSample) -> ModelFit:
        encoded = self._encode(sample)
        if not encoded.response:
            return ModelFit("empty_response", 0)
        room = self._limit - 1 - len(encoded.prompt)
        if len(encoded.response) <= room:
            return ModelFit("ok", len(sample.response))
        for count in range(room, 0, -1):
            chars = encoded.whole_characters(count)
            # a cut inside a character is moved before it, and the text tokenised anew may need more tokens
            if chars and len(self._cut(sample, encoded, chars)) <= room:
                return ModelFit("ok", chars)
        return ModelFit("prompt_too_long", 0)

    def losses(self, samples: Sequence[ScoringSample], kept_chars: Sequence[int]) -> list[ResponseLoss]:
        start = self._loaded.start
        sequences: list[tuple[tuple[int, ...], int]] = []
        for sample, chars in zip(samples, kept_chars, strict=True):
            encoded = self._encode(sample)
            response = self._cut(sample, encoded, chars)
            sequences.append(((start, *encoded.prompt, *response), len(response)))
            sequences.append(((start, *response), len(response)))
        means = self._mean_losses(sequences)
        return [
            ResponseLoss(count, means[(given, count)], means[(alone, count)])
            for (given, count), (alone, _) in zip(sequences[::2], sequences[1::2], strict=True)
        ]

    def _cut(self, sample: ScoringSample, encoded: _Encoded, chars: int) -> tuple[int, ...]:
        """Tokens of the first ``chars`` characters: the own tokens where one ends just there, else tokenised anew."""
        if chars >= len(sample.response):
            return encoded.response
        count = bisect.bisect_right(encoded.ends, chars)
        if count and encoded.ends[count - 1] == chars == encoded.whole_characters(count):
            return encoded.response[:count]
        return tuple(self._loaded.tokenizer(sample.response[:chars], add_special_tokens=False)["input_ids"])

    def _encode(self, sample: ScoringSample) -> _Encoded:
        if sample not in self._encoded:
            tokenizer = self._loaded.tokenizer
            if self._template == "chat":
                text = self._chat_text(sample)
            else:
                text = prompt_text(self._template, sample.system, sample.history, sample.instruction)
            prompt = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
            if self._template == "chat" and prompt[:1] == (self._loaded.start,):
                prompt = prompt[1:]
            self._encoded[sample] = _Encoded(prompt, *self._with_offsets(sample.response))
        return self._encoded[sample]

    def _with_offsets(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        tokenizer = self._loaded.tokenizer
        if tokenizer.is_fast:
            encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            offsets = encoding["offset_mapping"]
            return tuple(encoding["input_ids"]), tuple(a for a, _ in offsets), tuple(b for _, b in offsets)
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        ends = tuple(min(len(tokenizer.decode(ids[:count])), len(text)) for count in range(1, len(ids) + 1))
        return ids, (0, *ends[:-1]), ends

    def _chat_text(self, sample: ScoringSample) -> str:
        messages = prompt_messages(sample.system, sample.history, sample.instruction)
        render = functools.partial(
            self._loaded.tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True
        )
        try:
            try:
                return str(render(messages))
            except jinja2.TemplateError:
                # some templates know no system role (Gemma, Mistral): there it leads the first message of the user
                if not sample.system or len(messages) < 2:
                    raise
                first = {**messages[1], "content": f"{sample.system}\n\n{messages[1]['content']}"}
                return str(render([first, *messages[2:]]))
        except jinja2.TemplateError as error:
            raise ModelError(
                f"scoring.template chat: the template of {self._loaded.name!r} refuses a conversation ({error}); use alpaca or plain"
            ) from error
        except ValueError as error:
            raise ModelError(
                f"scoring.template chat: the tokenizer of {self._loaded.name!r} has no chat template; use alpaca or plain"
            ) from error

    def _mean_losses(
        self, sequences: Sequence[tuple[tuple[int, ...], int]]
    ) -> dict[tuple[tuple[int, ...], int], float]:
        """Mean loss, in nats, over the last ``count`` tokens of each (tokens, count); equal ones are computed once."""
        ordered = sorted(set(sequences), key=lambda item: (len(item[0]), item))
        means: dict[tuple[tuple[int, ...], int], float] = {}
        if self._progress:
            self._progress.stage(f"scoring under {self._loaded.name.rsplit('/', 1)[-1]}", len(ordered))
        batch: list[tuple[tuple[int, ...], int]] = []
        for item in ordered:
            if batch and len(item[0]) * (len(batch) + 1) > self._batch_tokens:
                means.update(zip(batch, self._forward(batch), strict=True))
                batch = []
            batch.append(item)
        if batch:
            means.update(zip(batch, self._forward(batch), strict=True))
        return means

    def _forward(self, batch: Sequence[tuple[tuple[int, ...], int]]) -> list[float]:
        import torch

        if self._progress:
            self._progress.advance(len(batch))
        width = max(len(tokens) for tokens, _ in batch)
        ids = torch.full((len(batch), width), self._loaded.start, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, (tokens, _) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self._loaded.device), mask.to(self._loaded.device)
        means = []
        with torch.inference_mode():
            # padding is on the right: a causal model never sees it from the tokens that are scored
            logits = self._loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for row, (tokens, count) in enumerate(batch):
                end = len(tokens)
                scored = logits[row, end - count - 1 : end - 1].float()
                loss = torch.nn.functional.cross_entropy(scored, ids[row, end - count : end], reduction="none")
                means.append(float(loss.double().mean()))
        return means
