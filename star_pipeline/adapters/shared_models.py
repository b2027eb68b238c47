"""Scoring and embedding models of which two threads make use: each question is computed once, and one thread computes at a time."""

import threading
from collections.abc import Callable, Sequence

from star_pipeline.adapters.fair_lock import FairLock
from star_pipeline.adapters.once import Once, Relay
from star_pipeline.adapters.scoring.numerics import ALONE
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.ports import Embedder, Heard, ModelFit, Progress, ResponseLoss, Scorer, ScoringSample

Known = dict[tuple[ScoringSample, int], ResponseLoss]
"""Losses under one model by text and kept characters."""
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

    def scorer(
        self,
        role: str,
        open_scorer: Callable[[Progress], Scorer],
        listener: Progress | None = None,
        known: Known | None = None,
        part: bool = False,
    ) -> Scorer:
        """A scorer like the one that ``open_scorer`` makes. ``role`` tells models apart that are of the same weights.

        A question is all samples of a call: batches are formed over just these, whoever computes, so that no bit differs. A model that
        computes each text by itself may be asked some of them before (``part``): both ways fill and use ``known``.
        """
        relay = Relay(self._notes, self._ended)
        with ALONE:  # two threads that import the same packages at once may find them half made
            opened = open_scorer(relay)
        return _SharedScorer(opened, role, self._once, self._scoring, relay, listener, known, part)

    def embedder(self, embedder: Embedder) -> Embedder:
        return _SharedEmbedder(embedder, self._once)


class _SharedScorer:
    def __init__(
        self,
        scorer: Scorer,
        role: str,
        once: Once,
        turn: FairLock,
        relay: Relay,
        listener: Progress | None,
        known: Known | None,
        part: bool,
    ) -> None:
        self._scorer, self._role, self._once, self._turn = scorer, role, once, turn
        self._relay, self._listener, self._known, self._part = relay, listener, known, part

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
                if self._known is None:
                    return self._scorer.losses(samples, kept_chars, heard)
                return self._lacking(self._known, list(zip(samples, kept_chars, strict=True)), heard)

        of = ("losses", self._role, self.weights, samples, kept_chars)
        return compute() if self._part else self._once.get(of, compute, self._relay, self._listener)

    def _lacking(
        self, known: Known, texts: Sequence[tuple[ScoringSample, int]], heard: Heard | None
    ) -> list[ResponseLoss]:
        """Compute those that are not known yet."""
        places = [number for number, text in enumerate(texts) if text not in known]
        tell: Heard | None = (lambda number, loss: heard(places[number], loss)) if heard else None
        samples, kept_chars = [texts[n][0] for n in places], [texts[n][1] for n in places]
        found = self._scorer.losses(samples, kept_chars, tell)
        known.update((texts[number], loss) for number, loss in zip(places, found, strict=True))
        return [known[text] for text in texts]


class _SharedEmbedder:
    def __init__(self, embedder: Embedder, once: Once) -> None:
        self._embedder, self._once = embedder, once

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._once.get(("embedding", texts), lambda: self._embedder.embed(texts))
