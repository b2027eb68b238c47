"""What a model is fed: prompt and response tokenised apart, cut to the model's limit between characters (Eq. 4)."""

import bisect
import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import check_folder, unloadable
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, Tokens
from star_pipeline.core.equations.ifd_templates import (
    Start,
    prompt_messages,
    prompt_text,
    with_system_in_first_question,
)
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ModelFit, ScoringSample

if TYPE_CHECKING:
    import transformers

_LIMIT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx")


@dataclass(frozen=True)
class ScoringTokenizer:
    """A model's tokenizer; ``start`` is the start token's id, ``context`` the tokens that the model takes, ``size`` its embeddings."""

    name: str
    tokenizer: "transformers.PreTrainedTokenizerBase"
    start: int
    context: int | None
    size: int | None = None


@functools.lru_cache(maxsize=4)
def load_tokenizer(name: str, version: str = "") -> ScoringTokenizer:
    """Tokenizer and limits of a Hugging Face id or folder, without weights; another ``version`` is read anew.

    Raises ModelError where they cannot be had.
    """
    check_folder(name)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    try:
        here = only_from_here(name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=here)
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=here).get_text_config()
    except Exception as error:  # whatever transformers says to files that are not what they should be
        raise unloadable(name, error) from error
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ModelError(
            f"scoring model {name!r}: its tokenizer has neither a BOS nor an EOS token, and the first response token needs one "
            "before it; set bos_token in its tokenizer_config.json"
        )
    limits = [value for key in _LIMIT_NAMES if isinstance(value := getattr(config, key, None), int) and value > 0]
    size = getattr(config, "vocab_size", None)
    return ScoringTokenizer(name, tokenizer, start, min(limits, default=None), size if isinstance(size, int) else None)


@dataclass(frozen=True)
class _Encoded:
    """Token ids; ``prompt`` is None where the chat template refuses the conversation."""

    prompt: Tokens | None
    response: Tokens


@dataclass(frozen=True)
class _Spans:
    """For each token of a response where in it it begins and ends, in characters."""

    starts: Tokens
    ends: Tokens

    def whole_characters(self, count: int) -> int:
        """How many characters the first ``count`` tokens hold whole: a character can be spread over several tokens."""
        end = int(self.ends[count - 1])
        return min(end, int(self.starts[count])) if count < len(self.starts) else end


class PassBuilder:
    """Turns samples into the two passes of Eq. 4, [start, prompt, response] and [start, response].

    ``start`` (see ``ifd_templates.Start``): the scored tokens are the same in both passes in any case.
    """

    def __init__(self, tokenizer: ScoringTokenizer, template: str, max_length: int, start: Start = "token") -> None:
        self._tokenizer = tokenizer
        self._skipped = int(start == "skip_first")
        self._start = np.array([tokenizer.start], dtype=np.int32)
        if start == "newline":
            newline = self._ids(["\n"])[0]
            if not len(newline):
                raise ModelError(
                    f"scoring.start newline: the tokenizer of {tokenizer.name!r} makes no token of a newline; use token or skip_first"
                )
            self._start = np.concatenate([self._start, newline])
        self._template = template
        self._limit = min(max_length, tokenizer.context or max_length)
        self._encoded: dict[ScoringSample, _Encoded] = {}
        self._cut_last = "", _Spans(np.empty(0, np.int32), np.empty(0, np.int32))

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        """What of each response fits; what was tokenised is kept until ``passes`` takes it."""
        self._encode(samples)
        return [self._fit(sample, self._encoded[sample]) for sample in samples]

    def passes(
        self, samples: Sequence[ScoringSample], kept_chars: Sequence[int]
    ) -> list[tuple[ForwardPass, ForwardPass]]:
        """For each sample the pass with its prompt, and the one without."""
        self._encode(samples)
        made = []
        for sample, chars in zip(samples, kept_chars, strict=True):
            encoded = self._encoded[sample]
            assert encoded.prompt is not None, "fit has told that this prompt cannot be made"
            response = self._cut(sample, encoded, chars)
            given, alone = (np.concatenate([self._start, *rest]) for rest in ((encoded.prompt, response), (response,)))
            scored = max(len(response) - self._skipped, 0)
            made.append((ForwardPass(given, scored), ForwardPass(alone, scored)))
        self._encoded.clear()
        return made

    def prompts(self, samples: Sequence[ScoringSample]) -> list[Tokens | None]:
        """What stands before each response in its first pass; None where the chat template refuses the conversation."""
        self._encode(samples)
        prompts = [self._encoded[sample].prompt for sample in samples]
        self._encoded.clear()
        return [None if prompt is None else np.concatenate([self._start, prompt]) for prompt in prompts]

    def forget(self) -> None:
        """Let go of what ``fit`` tokenised, where no ``passes`` follow."""
        self._encoded.clear()

    def prompt_texts(self, samples: Sequence[ScoringSample]) -> list[str | None]:
        """The same as text, special tokens in their own spelling; tokenised without the tokenizer's own, it is those tokens again."""
        first = str(self._tokenizer.tokenizer.decode([self._tokenizer.start]))
        start = first + "\n" * (len(self._start) > 1)
        texts = [self._prompt(sample) for sample in samples]
        chat = self._template == "chat"
        return [None if text is None else start + (text.removeprefix(first) if chat else text) for text in texts]

    def _fit(self, sample: ScoringSample, encoded: _Encoded) -> ModelFit:
        if not len(encoded.response):
            return ModelFit("empty_response", 0)
        if encoded.prompt is None:
            return ModelFit("prompt_refused", 0)
        size = self._tokenizer.size
        if size and max(ids.max() for ids in (encoded.prompt, encoded.response) if len(ids)) >= size:
            return ModelFit("unknown_token", 0)
        if len(encoded.response) <= self._skipped:
            return ModelFit("too_short", 0)
        room = self._limit - len(self._start) - len(encoded.prompt)
        if len(encoded.response) <= room:
            return ModelFit("ok", len(sample.response))
        spans = self._spans(sample.response)
        for count in range(room, self._skipped, -1):
            chars = spans.whole_characters(count)
            # a cut inside a character is moved before it, and the text tokenised anew may need more tokens
            if chars and self._skipped < len(self._cut(sample, encoded, chars)) <= room:
                return ModelFit("ok", chars)
        return ModelFit("prompt_too_long", 0)

    def _cut(self, sample: ScoringSample, encoded: _Encoded, chars: int) -> Tokens:
        """Tokens of the first ``chars`` characters: the own tokens where one ends just there, else tokenised anew."""
        if chars >= len(sample.response):
            return encoded.response
        spans = self._spans(sample.response)
        count = bisect.bisect_right(spans.ends, chars)
        if count and spans.ends[count - 1] == chars == spans.whole_characters(count):
            return encoded.response[:count]
        return self._ids([sample.response[:chars]])[0]

    def _encode(self, samples: Sequence[ScoringSample]) -> None:
        new = list(dict.fromkeys(sample for sample in samples if sample not in self._encoded))
        if not new:
            return
        texts = [self._prompt(sample) for sample in new]
        distinct = list(dict.fromkeys(text for text in texts if text is not None))
        prompts = dict(zip(distinct, self._ids(distinct), strict=True))
        responses = self._ids([sample.response for sample in new])
        for sample, text, response in zip(new, texts, responses, strict=True):
            prompt = prompts[text] if text is not None else None
            if self._template == "chat" and prompt is not None and len(prompt) and prompt[0] == self._tokenizer.start:
                prompt = prompt[1:]
            self._encoded[sample] = _Encoded(prompt, response)

    def _ids(self, texts: Sequence[str]) -> list[Tokens]:
        tokenizer = self._tokenizer.tokenizer
        encoded = tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]

    def _spans(self, text: str) -> _Spans:
        """Of one response, when it is to be cut: for all, this takes as long as tokenising does."""
        last = self._cut_last
        if text != last[0]:
            last = self._cut_last = text, self._find_spans(text)
        return last[1]

    def _find_spans(self, text: str) -> _Spans:
        tokenizer = self._tokenizer.tokenizer
        if tokenizer.is_fast:
            offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            spans = np.array(offsets, dtype=np.int32).reshape(-1, 2)
            return _Spans(spans[:, 0], spans[:, 1])
        ids, decode = self._ids([text])[0], tokenizer.decode
        ends = [min(len(decode(ids[:count])), len(text)) for count in range(1, len(ids) + 1)]
        return _Spans(np.array([0, *ends[:-1]], dtype=np.int32)[: len(ids)], np.array(ends, dtype=np.int32))

    def _prompt(self, sample: ScoringSample) -> str | None:
        """The prompt's text; None where the tokenizer's chat template takes conversations, but not this one."""
        if self._template != "chat":
            return prompt_text(self._template, sample.system, sample.history, sample.instruction)
        messages = prompt_messages(sample.system, sample.history, sample.instruction)
        # some templates know no system role (Gemma, Mistral): there it leads the first message of the user
        forms: list[Sequence[Mapping[str, str]]] = [messages]
        if folded := with_system_in_first_question(messages):
            forms.append(folded)
        for form in forms:
            with contextlib.suppress(jinja2.TemplateError):
                return self._rendered(form)
        try:
            self._rendered([{"role": "user", "content": "hi"}])
        except jinja2.TemplateError as error:
            raise ModelError(
                f"scoring.template chat: the template of {self._tokenizer.name!r} refuses a user's message ({error}); use alpaca or plain"
            ) from error
        return None

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        try:
            render = self._tokenizer.tokenizer.apply_chat_template
            return str(render(list(messages), tokenize=False, add_generation_prompt=True))
        except ValueError as error:
            raise ModelError(
                f"scoring.template chat: the tokenizer of {self._tokenizer.name!r} has no chat template; use alpaca or plain"
            ) from error
