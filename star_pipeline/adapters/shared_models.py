"""Scoring and embedding models of which two threads make use: each question is computed once, and one thread computes at a time."""

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
        self._texts = _Texts(_MODELS * shards)

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
    ) -> Scorer:
        """A scorer like the one that ``open_scorer`` makes. ``role`` tells models apart that are of the same weights.

        A question is all samples of a call: batches are formed over just these, whoever computes, so that no bit differs. A model that
        computes each text by itself (``text_by_text``) may be asked some of a shard's texts before (``part``): none of them is asked
        again, whoever asks for it next.
        """
        relay = Relay(self._notes, self._ended)
        with ALONE:  # two threads that import the same packages at once may find them half made
            opened = open_scorer(relay)
        texts = self._texts if text_by_text else None
        return _SharedScorer(opened, role, self._once, self._scoring, relay, listener, texts, part)

    def embedder(self, embedder: Embedder) -> Embedder:
        return _SharedEmbedder(embedder, self._once)


class _Texts:
    """Losses by text, the last that were computed: of ``shards`` times the longest question that was not a part of one."""

    def __init__(self, shards: int) -> None:
        self._shards, self._longest = shards, 0
        self._losses: OrderedDict[str, ResponseLoss] = OrderedDict()

    def get(self, name: str) -> ResponseLoss | None:
        return self._losses.get(name)

    def keep(self, found: dict[str, ResponseLoss], part: bool) -> None:
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
        relay: Relay,
        listener: Progress | None,
        texts: _Texts | None,
        part: bool,
    ) -> None:
        self._scorer, self._role, self._once, self._turn = scorer, role, once, turn
        self._relay, self._listener, self._texts, self._part = relay, listener, texts, part

    @property
    def weights(self) -> str:
        return self._scorer.weights

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        def compute() -> list[ModelFit]:
            with self._turn:
                return self._scorer.fit(samples)

        return compute() if self._part else self._once.get(("fit", self._role, self.weights, samples), compute)

    def losses(
        self, samples: Sequence[ScoringSample], kept_chars: Sequence[int], heard: Heard | None = None
    ) -> list[ResponseLoss]:
        def compute() -> list[ResponseLoss]:
            with self._turn:
                if self._texts is None:
                    return self._scorer.losses(samples, kept_chars, heard)
                return self._lacking(self._texts, samples, kept_chars, heard)

        of = ("losses", self._role, self.weights, samples, kept_chars)
        return compute() if self._part else self._once.get(of, compute, self._relay, self._listener)

    def _lacking(
        self, texts: _Texts, samples: Sequence[ScoringSample], kept_chars: Sequence[int], heard: Heard | None
    ) -> list[ResponseLoss]:
        """Compute those that are not known yet; of the others ``heard`` has been told, or is not."""
        pairs = list(zip(samples, kept_chars, strict=True))
        names = [name_of((self._role, self.weights, *pair)) for pair in pairs]
        found = {name: loss for name in names if (loss := texts.get(name))}
        places = [number for number, name in enumerate(names) if name not in found]
        tell: Heard | None = (lambda number, loss: heard(places[number], loss)) if heard else None
        asked = [pairs[number] for number in places]
        losses = self._scorer.losses([sample for sample, _ in asked], [kept for _, kept in asked], tell)
        found |= {names[number]: loss for number, loss in zip(places, losses, strict=True)}
        texts.keep(found, self._part)
        return [found[name] for name in names]


class _SharedEmbedder:
    def __init__(self, embedder: Embedder, once: Once) -> None:
        self._embedder, self._once = embedder, once

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._once.get(("embedding", texts), lambda: self._embedder.embed(texts))
