"""How a target is asked and taught: the tokens that IFD scored, and the end token behind a whole answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.scoring.prefix_tree import Tokens
from star_pipeline.adapters.scoring.tokenizer import PassBuilder, load_tokenizer
from star_pipeline.config.scoring import AnyModel, ScoringConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.equations.ifd_templates import Template
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.study.chat_templates import TaughtStart, chat_template

if TYPE_CHECKING:
    import transformers


@dataclass(frozen=True)
class Form:
    """``template`` and ``start`` of ``scoring``, by which every text of a target is made."""

    template: Template
    start: TaughtStart = "token"

    @classmethod
    def of(cls, model: AnyModel, scoring: ScoringConfig) -> "Form":
        """As IFD scored under this model. What ``skip_first`` leaves out of a loss is taught, and begins as ``token`` does; so does the
        tokenizer's own ``chat`` template, into which no newline fits."""
        template = scoring.template_of(model)
        return cls(template, "newline" if scoring.start == "newline" and template != "chat" else "token")


@dataclass(frozen=True)
class TaughtRow:
    """``ids`` of a whole conversation; its last ``taught`` tokens are the answer, with the end token unless it was ``cut``."""

    ids: Tokens
    taught: int
    cut: bool


@dataclass(frozen=True)
class WrittenRow:
    """A whole conversation as text: ``prompt``, start token first, and ``completion``, with the end token unless it was ``cut``."""

    prompt: str
    completion: str
    cut: bool


class TargetTexts:
    """Texts of the model ``source`` (Hugging Face id or folder) as tokens, at most ``max_length`` of them.

    Raises ModelError where the tokenizer cannot be had or has no end token.
    """

    def __init__(self, source: str, form: Form, max_length: int, version: str = "") -> None:
        self.form = form
        self._loaded = load_tokenizer(source, version)
        self.limit = min(max_length, self._loaded.context or max_length)
        # a token is left for the end of the answer
        self._builder = PassBuilder(self._loaded, form.template, max(self.limit - len(self.end), 1), form.start)

    @property
    def tokenizer(self) -> "transformers.PreTrainedTokenizerBase":
        return self._loaded.tokenizer

    @cached_property
    def architecture(self) -> JsonObject:
        """The model's config.json as transformers reads it; the text's part of a model that takes more."""
        import transformers

        name = self._loaded.name  # the tokenizer's loading has read it before
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=only_from_here(name))
        return dict(config.get_text_config().to_dict())

    @cached_property
    def end(self) -> tuple[int, ...]:
        """What closes an answer: the end token; with the tokenizer's own chat template what it writes there, up to a special token."""
        tokenizer = self.tokenizer
        if self.form.template == "chat" and tokenizer.chat_template:
            probe = "answer"
            said = [{"role": "user", "content": "question"}, {"role": "assistant", "content": probe}]
            after = str(tokenizer.apply_chat_template(said, tokenize=False)).rpartition(probe)[2]
            ids = tokenizer(after, add_special_tokens=False)["input_ids"]
            special = set(tokenizer.all_special_ids) | {
                number for number, token in tokenizer.added_tokens_decoder.items() if token.special
            }
            for count, number in enumerate(ids, 1):
                if number in special:
                    return tuple(ids[:count])
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"target {self._loaded.name!r}: its tokenizer has no end token, and an answer has to end somewhere; set eos_token in "
                "its tokenizer_config.json"
            )
        return (int(tokenizer.eos_token_id),)

    def taught(self, samples: Sequence[ScoringSample]) -> list[TaughtRow | None]:
        """Each sample as it is taught; None for what IFD cannot score either: an empty response, a prompt that leaves it no room."""
        fits = self._builder.fit(samples)
        fitting = [(sample, fit.kept_chars) for sample, fit in zip(samples, fits, strict=True) if fit.status == "ok"]
        passes = iter(self._builder.passes([sample for sample, _ in fitting], [kept for _, kept in fitting]))
        rows: list[TaughtRow | None] = []
        for sample, fit in zip(samples, fits, strict=True):
            if fit.status != "ok":
                rows.append(None)
                continue
            given, _ = next(passes)
            cut = fit.kept_chars < len(sample.response)
            end = () if cut else self.end
            ids = np.concatenate([given.tokens, np.array(end, dtype=np.int32)])
            rows.append(TaughtRow(ids, given.scored + len(end), cut))
        return rows

    def written(self, samples: Sequence[ScoringSample]) -> list[WrittenRow | None]:
        """Each sample as ``taught`` has it, as text for a trainer that tokenises prompt and completion apart; None as there."""
        fits, prompts = self._builder.fit(samples), self._builder.prompt_texts(samples)
        end = str(self.tokenizer.decode(list(self.end)))
        rows: list[WrittenRow | None] = []
        for sample, fit, prompt in zip(samples, fits, prompts, strict=True):
            cut = fit.kept_chars < len(sample.response)
            fitting = fit.status == "ok" and prompt is not None
            rows.append(
                WrittenRow(str(prompt), sample.response[: fit.kept_chars] + end * (not cut), cut) if fitting else None
            )
        self._builder.forget()
        return rows

    def asked(self, samples: Sequence[ScoringSample]) -> list[Tokens | None]:
        """What an answer follows, start token first; None where the chat template refuses the conversation."""
        return self._builder.prompts(samples)

    def tokenizer_to_keep(self, source: str) -> "transformers.PreTrainedTokenizerBase":
        """The model's own, which renders messages in the taught form."""
        import transformers

        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=only_from_here(source))
        except Exception as error:  # whatever transformers says to files that are not what they should be
            raise unloadable(source, error) from error
        has_bos = tokenizer.bos_token_id is not None
        if self.form.template != "chat":
            tokenizer.chat_template = chat_template(self.form.template, self.form.start, has_bos)
        elif tokenizer.chat_template:
            tokenizer.chat_template = tokenizer.get_chat_template()  # of several (for tools, say) the default one
            # what IFD scored begins with the start token: so does what is taught, and what is asked
            shown = str(tokenizer.apply_chat_template([{"role": "user", "content": "question"}], tokenize=False))
            if not shown.startswith(tokenizer.bos_token if has_bos else tokenizer.eos_token):
                start = "{{ bos_token }}" if has_bos else "{{ eos_token }}"
                tokenizer.chat_template = start + tokenizer.chat_template
        return tokenizer
