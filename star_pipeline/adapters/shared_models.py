"""Scoring and embedding models of which two threads make use: each question is computed once, and one thread computes at a time."""

import threading
from collections.abc import Callable, Sequence

from star_pipeline.adapters.fair_lock import FairLock
from star_pipeline.adapters.once import Once, Relay
from star_pipeline.adapters.scoring.numerics import ALONE
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.ports import Embedder, ModelFit, Progress, ResponseLoss, Scorer, ScoringSample

_A_SHARD = 8
"""Results of a shard, and some to spare: fit and losses under two models, embeddings of its seeds and of what is remembered."""


class SharedModels:
    """What has been computed in this run, and whose turn it is. ``notes`` is told what users should know.

    The results of ``shards`` shards are kept.
    """

    def __init__(self, notes: Progress, shards: int) -> None:
        self._notes = notes
        self._ended = threading.Event()
        self._once = Once(_A_SHARD * shards)
        self._scoring = FairLock()

    def end(self) -> None:
        """The run has ended: what is being scored stops after its batch."""
        self._ended.set()

    def scorer(self, role: str, open_scorer: Callable[[Progress], Scorer], listener: Progress | None = None) -> Scorer:
        """A scorer like the one that ``open_scorer`` makes. ``role`` tells models apart that are of the same weights.

        A question is all samples of a call: batches are formed over just these, whoever computes, so that no bit differs.
        """
        relay = Relay(self._notes, self._ended)
        with ALONE:  # two threads that import the same packages at once may find them half made
            opened = open_scorer(relay)
        return _SharedScorer(opened, role, self._once, self._scoring, relay, listener)

    def embedder(self, embedder: Embedder) -> Embedder:
        return _SharedEmbedder(embedder, self._once)


class _SharedScorer:
    def __init__(
        self, scorer: Scorer, role: str, once: Once, turn: FairLock, relay: Relay, listener: Progress | None
    ) -> None:
        self._scorer, self._role, self._once, self._turn = scorer, role, once, turn
        self._relay, self._listener = relay, listener

    @property
    def weights(self) -> str:
        return self._scorer.weights

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        def compute() -> list[ModelFit]:
            with self._turn:
                return self._scorer.fit(samples)

        return self._once.get(("fit", self._role, self.weights, samples), compute)

    def losses(self, samples: Sequence[ScoringSample], kept_chars: Sequence[int]) -> list[ResponseLoss]:
        def compute() -> list[ResponseLoss]:
            with self._turn:
                return self._scorer.losses(samples, kept_chars)

        of = ("losses", self._role, self.weights, samples, kept_chars)
        return self._once.get(of, compute, self._relay, self._listener)


class _SharedEmbedder:
    def __init__(self, embedder: Embedder, once: Once) -> None:
        self._embedder, self._once = embedder, once

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._once.get(("embedding", texts), lambda: self._embedder.embed(texts))
