"""The port's scorer over a model on a server: tokenised here, computed there."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.scoring.completions import CompletionsServer
from star_pipeline.adapters.scoring.paired_losses import PairedLosses
from star_pipeline.adapters.scoring.tokenizer import PassBuilder, ScoringTokenizer, load_tokenizer
from star_pipeline.adapters.scoring.weights import served_weights
from star_pipeline.config.scoring import ServedModel
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Heard, ModelFit, Progress, ResponseLoss, ScoringSample


class ServedScorer:
    """Scores under a model that an OpenAI-compatible completions server holds; only its tokenizer is needed here.

    The values are what the server computes, in its own precision. A token of probability 0 there gives an infinite loss.
    """

    def __init__(
        self,
        served: ServedModel,
        template: str,
        max_length: int,
        progress: Progress | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        start: Start = "token",
    ) -> None:
        self._served, self._template, self._progress = served, template, progress
        self._server = CompletionsServer(served, sleep)
        self._maker = PassBuilder(served_tokenizer(served), template, max_length, start)

    @functools.cached_property
    def weights(self) -> str:
        """What the server tells of the model (see ``served_weights``), asked once; empty where it does not answer."""
        told = event_loop.run(self._server.told())
        return "" if told is None else served_weights(self._served, told, self._template)

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        return self._maker.fit(samples)

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        found = PairedLosses(self._maker.passes(samples, kept_chars), heard)
        passes = found.passes
        if self._progress:
            total = sum(len(item.tokens) for item in passes)
            self._progress.stage(f"scoring under {self._served.model.rsplit('/', 1)[-1]} (tokens)", total)

        def done(number: int, values: list[float]) -> None:
            item = passes[number]
            found.done(number, -sum(values[-item.scored :]) / item.scored)
            if self._progress:
                self._progress.advance(len(item.tokens))

        event_loop.run(self._server.ask([item.tokens.tolist() for item in passes], done))
        return found.all()


def served_tokenizer(served: ServedModel) -> ScoringTokenizer:
    """The tokenizer of a served model; its context is one token shorter, for the one that a server makes of its own."""
    tokenizer = load_tokenizer(served.tokenizer_source)
    return replace(tokenizer, context=tokenizer.context - 1) if tokenizer.context else tokenizer


def describe_server(served: ServedModel, max_length: int) -> str:
    """Ask a served model about two tokens, and say how it answers. Raises ModelError or ConfigError where a run would fail."""
    tokenizer = served_tokenizer(served)
    server = CompletionsServer(served)
    event_loop.run(server.ask([[tokenizer.start, tokenizer.start]], lambda number, values: None))
    limit = event_loop.run(server.limit())
    longest = min(max_length, tokenizer.context or max_length)
    if limit is not None and limit <= longest:
        raise ModelError(
            f"scoring model {served}: the server takes {limit:,} tokens, one of them its own, and passes may have {longest:,}; set "
            f"scoring.max_length to {limit - 1}, or raise the server's limit (vLLM: --max-model-len)"
        )
    return f"answers with {server.dialect}"
