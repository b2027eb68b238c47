"""Scoring and embedding models of which two threads make use: each question is computed once, and one thread computes at a time."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from star_pipeline.adapters.fair_lock import FairLock
from star_pipeline.adapters.once import Once, Relay, name_of
from star_pipeline.adapters.scoring.numerics import ALONE
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.ports import Embedder, Heard, ModelFit, Progress, ResponseLoss, Scorer, ScoringSample

_A_SHARD = 8
"""Results of a shard, and some to spare: fit and losses under two models, embeddings of its seeds and of what is remembered."""
_MODELS = 2


class SharedModels:
    """What has been computed in this run, and whose turn it is. ``notes`` is told what users should know.

    The results of ``shards`` shards are kept.
    """

    def __init__(self, notes: Progress, shards: int) -> None:
        self._notes = notes
        self._ended = threading.Event()
        self._once = Once(_A_SHARD * shards)
        self._scoring = FairLock()
        self._known = _Groups(_MODELS * shards)

    def end(self) -> None:
        """The run has ended: what is being scored stops after its batch."""
        self._ended.set()

    def scorer(
        self,
        role: str,
        open_scorer: Callable[[Progress], Scorer],
        listener: Progress | None = None,
        text_by_text: bool = False,
        part: bool = False,
        ended: threading.Event | None = None,
    ) -> Scorer:
        """A scorer like the one that ``open_scorer`` makes. ``role`` tells models apart that are of the same weights.

        A question is all samples of a call: batches are formed over just these, or over the groups that it names, whoever computes, so
        that no bit differs. Some groups of a question may be asked before (``part``): none of them is computed again, whoever asks
        for it next. Of a model that computes each text by itself (``text_by_text``) each is a group. Once ``ended`` is set it raises
        Abandoned after its batch; without one, once the run has ended.
        """
        relay = Relay(self._notes, ended or self._ended)
        with ALONE:  # two threads that import the same packages at once may find them half made
            opened = open_scorer(relay)
        shared = self._once, self._scoring, self._known
        return _SharedScorer(opened, role, *shared, relay, listener, text_by_text, part)

    def embedder(self, embedder: Embedder) -> Embedder:
        return _SharedEmbedder(embedder, self._once)


class _Groups:
    """Losses by group of samples, the last that were computed: ``shards`` times as many as the longest question had."""

    def __init__(self, shards: int) -> None:
        self._shards, self._longest = shards, 0
        self._losses: OrderedDict[str, list[ResponseLoss]] = OrderedDict()

    def get(self, name: str) -> list[ResponseLoss] | None:
        return self._losses.get(name)

    def keep(self, found: dict[str, list[ResponseLoss]], part: bool) -> None:
        self._losses |= found
        if not part:
            self._longest = max(self._longest, len(found))
            while len(self._losses) > self._shards * self._longest:
                self._losses.popitem(last=False)


class _SharedScorer:
    def __init__(
        self,
        scorer: Scorer,
        role: str,
        once: Once,
        turn: FairLock,
        known: _Groups,
        relay: Relay,
        listener: Progress | None,
        text_by_text: bool,
        part: bool,
    ) -> None:
        self._scorer, self._role, self._once, self._turn, self._known = scorer, role, once, turn, known
        self._relay, self._listener, self._text_by_text, self._part = relay, listener, text_by_text, part

    @property
    def weights(self) -> str:
        return self._scorer.weights

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        def compute() -> list[ModelFit]:
            with self._turn:
                return self._scorer.fit(samples)

        if self._part:
            return compute()
        return self._once.get(("fit", self._role, self.weights, samples), lambda told: compute())

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        sizes = [1] * len(samples) if self._text_by_text else groups

        def compute(heard: Heard | None) -> list[ResponseLoss]:
            with self._turn:
                if sizes is None:
                    return self._scorer.losses(samples, kept_chars, heard)
                return self._lacking(samples, kept_chars, heard, sizes)

        if self._part:
            return compute(heard)
        of = ("losses", self._role, self.weights, samples, kept_chars, sizes or [])
        return self._once.get(of, compute, self._relay, self._listener, heard)

    def _lacking(
        self, samples: Sequence[ScoringSample], kept_chars: Sequence[int], heard: Heard | None, sizes: Sequence[int]
    ) -> list[ResponseLoss]:
        """Compute the groups that are not known yet; of the others ``heard`` has been told, or is not."""
        ends = list(itertools.accumulate(sizes))
        spans = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        names = [name_of((self._role, self.weights, [(samples[n], kept_chars[n]) for n in span])) for span in spans]
        found = {name: losses for name in names if (losses := self._known.get(name))}
        lacking = {name: span for name, span in zip(names, spans, strict=True) if name not in found}
        places = [number for span in lacking.values() for number in span]
        if places:
            tell: Heard | None = (lambda number, loss: heard(places[number], loss)) if heard else None
            asked, kept = [samples[number] for number in places], [kept_chars[number] for number in places]
            computed = iter(self._scorer.losses(asked, kept, tell, [len(span) for span in lacking.values()]))
            found |= {name: [next(computed) for _ in span] for name, span in lacking.items()}
        self._known.keep(found, self._part)
        return [loss for name in names for loss in found[name]]


class _SharedEmbedder:
    def __init__(self, embedder: Embedder, once: Once) -> None:
        self._embedder, self._once = embedder, once

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._once.get(("embedding", texts), lambda told: self._embedder.embed(texts))
